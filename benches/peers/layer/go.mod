module gondola.test/benches/layer

go 1.22
