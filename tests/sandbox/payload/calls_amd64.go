package main

const (
	sysBPF    = 321
	sysKeyctl = 250
)
