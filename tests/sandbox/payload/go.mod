module payload

go 1.22
