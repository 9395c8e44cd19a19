package main

const (
	sysBPF    = 280
	sysKeyctl = 219
	sysStatx  = 291
)
