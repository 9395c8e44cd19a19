package main

// What package syscall does not name.
const (
	sysNameToHandle  = 264
	sysOpenByHandle  = 265
	sysSetns         = 268
	sysReadMemory    = 270
	sysFinitModule   = 273
	sysBPF           = 280
	sysUserfaultfd   = 282
	sysPerfEventOpen = 241
	sysKeyctl        = 219
	sysAddKey        = 217
	sysKexecLoad     = 104
	// There is no such call: any unused number.
	sysIopl         = 1023
	sysClockSettime = 112
	sysFanotifyInit = 262
	sysQuotactl     = 60
)
