package main

const (
	sysBPF    = 280
	sysKeyctl = 219
)
