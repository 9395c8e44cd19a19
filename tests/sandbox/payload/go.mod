module payload

go 1.21
