package main

// What package syscall does not name.
const (
	sysNameToHandle  = 303
	sysOpenByHandle  = 304
	sysSetns         = 308
	sysReadMemory    = 310
	sysFinitModule   = 313
	sysBPF           = 321
	sysUserfaultfd   = 323
	sysPerfEventOpen = 298
	sysKeyctl        = 250
	sysAddKey        = 248
	sysKexecLoad     = 246
	sysIopl          = 172
	sysClockSettime  = 227
	sysFanotifyInit  = 300
	sysQuotactl      = 179
)
