package main

const (
	sysBPF    = 321
	sysKeyctl = 250
	sysStatx  = 332
)
