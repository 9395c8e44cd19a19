package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

var actions = []action{
	{"the host's file by its path", func() string { return read(canaryFile) }},
	{"the root of the first process", func() string { return read("/proc/1/root" + canaryFile) }},
	{"the folder of the first process", func() string { return read("/proc/1/cwd/../../../../../.." + canaryFile) }},
	{"the own root", func() string { return read("/proc/self/root/../../../.." + canaryFile) }},
	{"above the root", func() string { return read("/../../../../../../../.." + canaryFile) }},
	{"roots of all processes", everyProcess("root" + canaryFile)},
	{"environments of all processes", everyProcess("environ")},
	{"command lines of all processes", everyProcess("cmdline")},
	{"descriptors left open", leftOpen},
	{"descriptors of the first process", firstDescriptors},
	{"overwriting the first program", overwritePrograms},
	{"memory of the first process", func() string { return openToWrite("/proc/1/mem") }},
	{"reading the first process's memory", readMemory},
	{"tracing the first process", func() string { return refused(syscall.PtraceAttach(1)) }},
	{"a signal to a process of the host", signalHost},
	{"a descriptor of the first process by pidfd", pidfd},
	{"namespaces of the first process", joinNamespaces},
	{"mounting a file system", func() string { return refused(syscall.Mount("x", "/", "tmpfs", 0, "")) }},
	{"mounting proc", func() string { return refused(syscall.Mount("proc", "/proc", "proc", 0, "")) }},
	{"mounting the disk", mountDisk},
	{"binding the root", func() string { return refused(syscall.Mount("/", "/", "", syscall.MS_BIND, "")) }},
	{"making proc writable", func() string {
		flags := uintptr(syscall.MS_REMOUNT | syscall.MS_BIND)
		return refused(syscall.Mount("", "/proc/sys", "", flags, ""))
	}},
	{"taking a mask away", func() string { return refused(syscall.Unmount("/proc/kcore", syscall.MNT_DETACH)) }},
	{"another root", func() string { return refused(syscall.PivotRoot("/", "/")) }},
	{"the new calls for mounts", func() string {
		for _, number := range []uintptr{428, 429, 430, 432, 442} {
			if result := privileged(call(number, ^uintptr(0), 0, 0)); strings.HasPrefix(result, "REACHED") {
				return fmt.Sprint(result, " ", number)
			}
		}
		return "refused"
	}},
	{"a user namespace", func() string { return refused(call(syscall.SYS_UNSHARE, syscall.CLONE_NEWUSER)) }},
	{"a mount namespace", func() string { return refused(call(syscall.SYS_UNSHARE, syscall.CLONE_NEWNS)) }},
	{"a network namespace", func() string { return refused(call(syscall.SYS_UNSHARE, syscall.CLONE_NEWNET)) }},
	{"namespaces of a child", func() string {
		child := exec.Command("/payload", "identity")
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS}
		return refused(child.Run())
	}},
	{"leaving a chroot", func() string {
		output, err := exec.Command("/payload", "chroot").Output()
		if err != nil {
			return refused(err)
		}
		return strings.TrimSpace(string(output))
	}},
	{"a node of the disk", func() string { return node(syscall.S_IFBLK, hostDevice) }},
	{"a node of the memory", func() string { return node(syscall.S_IFCHR, "257") }},
	{"a node of the kernel's messages", func() string { return node(syscall.S_IFCHR, "267") }},
	{"devices of the machine", func() string {
		return openToWrite("/dev/mem", "/dev/kmsg", "/dev/port", "/dev/sda", "/dev/vda", "/dev/kvm",
			"/dev/loop-control", "/dev/fuse", "/dev/net/tun", "/dev/uinput")
	}},
	{"a file by its handle", byHandle},
	{"keys of the session", func() string { return privileged(call(sysKeyctl, 0, ^uintptr(2), 0)) }},
	{"a key", func() string { return privileged(call(sysAddKey, 0, 0, 0, 0, 0)) }},
	{"a program for the kernel", func() string { return privileged(call(sysBPF, 99, 0, 0)) }},
	{"counters of the machine", func() string { return privileged(call(sysPerfEventOpen, 0, ^uintptr(0), 0, ^uintptr(0), 0)) }},
	{"faults handled by users", func() string { return privileged(call(sysUserfaultfd, 1<<30)) }},
	{"a ring of calls", func() string { return privileged(call(425, 0, 0)) }},
	{"ports of the machine", func() string { return privileged(call(sysIopl, 3)) }},
	{"watching all files", func() string { return privileged(call(sysFanotifyInit, 1<<30, 0)) }},
	{"quotas", func() string { return privileged(call(sysQuotactl, 0xffff0000, 0, 0, 0)) }},
	{"files of sys", writableBelow("/sys")},
	{"files of proc/sys", writableBelow("/proc/sys")},
	{"the pattern of core files", func() string {
		return openToWrite("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe",
			"/proc/sys/kernel/hotplug", "/sys/kernel/uevent_helper")
	}},
	{"the system request key", func() string { return openToWrite("/proc/sysrq-trigger") }},
	{"formats of programs", func() string { return openToWrite("/proc/sys/fs/binfmt_misc/register") }},
	{"the kernel's memory and keys", func() string {
		for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kmsg", "/proc/sched_debug"} {
			if content, err := os.ReadFile(path); err == nil && len(content) > 0 {
				return "REACHED " + path
			}
		}
		return "refused"
	}},
	{"release agents of control groups", func() string {
		found, _ := filepath.Glob("/sys/fs/cgroup/*/release_agent")
		more, _ := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
		return openToWrite(append(append(found, more...), "/sys/fs/cgroup/release_agent", "/sys/fs/cgroup/cgroup.procs")...)
	}},
	{"mounting control groups", func() string { return refused(syscall.Mount("c", "/", "cgroup", 0, "memory")) }},
	{"an abstract socket of the host", func() string {
		_, err := net.Dial("unix", "@"+hostSocket)
		return refused(err)
	}},
	{"keys typed into a terminal", typeKeys},
	{"messages of the kernel", func() string {
		buffer := make([]byte, 1024)
		_, err := syscall.Klogctl(3, buffer)
		return refused(err)
	}},
	{"restarting the machine", func() string { return privileged(call(syscall.SYS_REBOOT, 1, 2, 3, 0)) }},
	{"swapping to a file", func() string { return privileged(call(syscall.SYS_SWAPON, 0, 0)) }},
	{"another kernel", func() string { return privileged(call(sysKexecLoad, 0, 0, 0, ^uintptr(0))) }},
	{"a module", func() string { return privileged(call(sysFinitModule, ^uintptr(0), 0, ^uintptr(0))) }},
	{"no module", func() string { return privileged(call(syscall.SYS_DELETE_MODULE, 0, 0)) }},
	{"the clock", func() string { return privileged(call(sysClockSettime, ^uintptr(0), 0)) }},
	{"accounting", func() string { return privileged(call(syscall.SYS_ACCT, 1)) }},
	{"the host's name", func() string { return refused(syscall.Sethostname([]byte("taken"))) }},
	{"the domain's name", func() string { return refused(syscall.Setdomainname([]byte("taken"))) }},
	{"more open files", func() string { return raise(syscall.RLIMIT_NOFILE) }},
	{"an interface of the network", interfaceDown},
	{"rights by a program's bits", setUser},
	{"rights in the file system's user", func() string { return capabilities("CapEff") }},
	{"rights that can be had", func() string { return capabilities("CapBnd") }},
	{"calls without a filter", func() string { return status("Seccomp", "2") }},
	{"programs with new rights", func() string { return status("NoNewPrivs", "1") }},
	{"moving what is mounted", func() string { return refused(os.Rename("/proc", "/proc-moved")) }},
	{"removing what is mounted", func() string { return refused(os.Remove("/etc/resolv.conf")) }},
}

func everyProcess(below string) func() string {
	return func() string {
		found, _ := filepath.Glob("/proc/[0-9]*")
		for _, process := range found {
			if process == fmt.Sprint("/proc/", os.Getpid()) {
				continue
			}
			if result := read(process + "/" + below); strings.HasPrefix(result, "REACHED") {
				return result + " by " + process
			}
		}
		return fmt.Sprint("came to nothing among ", len(found))
	}
}

func leftOpen() string {
	for number := 3; number < 1024; number++ {
		from := fmt.Sprintf("/proc/self/fd/%d", number)
		target, err := os.Readlink(from)
		if err != nil || strings.HasPrefix(target, "anon_inode:[event") {
			continue
		}
		if strings.HasPrefix(read(from+"/../../../../../.."+canaryFile), "REACHED") || strings.HasPrefix(target, "/") {
			return "REACHED " + target
		}
	}
	return "came to nothing"
}

func firstDescriptors() string {
	found, err := os.ReadDir("/proc/1/fd")
	if err != nil {
		return refused(err)
	}
	for _, one := range found {
		if file, err := os.Open("/proc/1/fd/" + one.Name()); err == nil {
			file.Close()
			return "REACHED descriptor " + one.Name()
		}
	}
	return "refused"
}

// overwritePrograms is how CVE-2019-5736 begins: through a process of the program that started us.
func overwritePrograms() string {
	found, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, path := range found {
		target, _ := os.Readlink(path)
		if target == "/payload" {
			continue
		}
		if file, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			file.Close()
			return "REACHED " + path
		}
		if file, err := os.Open(path); err == nil {
			file.Close()
			return "REACHED to read " + path + " " + target
		}
	}
	return openToWrite(program)
}

func readMemory() string {
	buffer := make([]byte, 8)
	local := syscall.Iovec{Base: &buffer[0], Len: 8}
	remote := local
	return refused(call(sysReadMemory, 1, uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0))
}

func signalHost() string {
	number, _ := strconv.Atoi(hostPid)
	if _, err := os.Stat("/proc/" + hostPid); err == nil {
		if read("/proc/"+hostPid+"/environ") != "REACHED the host's file" {
			return "came to nothing: the number is one of ours"
		}
	}
	return refused(syscall.Kill(number, 0))
}

func pidfd() string {
	descriptor, _, errno := syscall.Syscall(434, 1, 0, 0)
	if errno != 0 {
		return refused(errno)
	}
	for number := uintptr(0); number < 8; number++ {
		if err := call(438, descriptor, number, 0); err == nil {
			return fmt.Sprint("REACHED descriptor ", number)
		}
	}
	return "refused"
}

func joinNamespaces() string {
	for _, kind := range []string{"mnt", "net", "pid", "user", "ipc", "uts", "cgroup"} {
		file, err := os.Open("/proc/1/ns/" + kind)
		if err != nil {
			continue
		}
		if call(sysSetns, file.Fd(), 0) == nil {
			return "REACHED " + kind
		}
	}
	return "refused"
}

func node(kind uint32, device string) string {
	number, _ := strconv.Atoi(device)
	os.Remove("/node")
	if err := syscall.Mknod("/node", kind|0o600, number); err != nil {
		return refused(err)
	}
	defer os.Remove("/node")
	file, err := os.OpenFile("/node", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return refused(err)
	}
	defer file.Close()
	// An empty file that stands for the device in the layer.
	if count, err := syscall.Read(int(file.Fd()), make([]byte, 512)); count == 0 && err == nil {
		return "came to nothing: it is empty"
	}
	return "REACHED"
}

func mountDisk() string {
	number, _ := strconv.Atoi(hostDevice)
	syscall.Mknod("/disk", syscall.S_IFBLK|0o600, number)
	defer os.Remove("/disk")
	os.Mkdir("/at", 0o755)
	for _, kind := range []string{"ext4", "xfs", "btrfs", "overlay"} {
		if syscall.Mount("/disk", "/at", kind, syscall.MS_RDONLY, "") == nil {
			return "REACHED " + kind
		}
	}
	return "refused"
}

// leaveChroot goes into a folder with its root there, and up from a folder that it kept.
func leaveChroot() string {
	os.Mkdir("/below", 0o755)
	if err := syscall.Chroot("/below"); err != nil {
		return refused(err)
	}
	for range [64]int{} {
		syscall.Chdir("..")
	}
	syscall.Chroot(".")
	return read(canaryFile)
}

// byHandle opens the root of the file system that the own root is on.
func byHandle() string {
	type handle struct {
		bytes uint32
		kind  int32
		data  [8]byte
	}
	root, err := syscall.Open("/", syscall.O_RDONLY, 0)
	if err != nil {
		return refused(err)
	}
	// Inode 2 is the root of most file systems.
	wanted := handle{bytes: 8, kind: 1, data: [8]byte{2}}
	return refused(call(sysOpenByHandle, uintptr(root), uintptr(unsafe.Pointer(&wanted)), 0))
}

func writableBelow(folder string) func() string {
	return func() string {
		result, tried := "came to nothing", 0
		filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
			if err != nil || tried > 3000 {
				return nil
			}
			info, err := entry.Info()
			if err != nil || !info.Mode().IsRegular() || info.Mode()&0o222 == 0 {
				return nil
			}
			tried++
			if file, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
				file.Close()
				result = "REACHED " + path
				return filepath.SkipAll
			}
			return nil
		})
		return fmt.Sprint(result, ", tried ", tried)
	}
}

func typeKeys() string {
	key := byte('x')
	last := "came to nothing"
	for _, path := range []string{"/dev/tty", "/proc/self/fd/0", "/proc/self/fd/2"} {
		file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
		if err != nil {
			last = refused(err)
			continue
		}
		err = call(syscall.SYS_IOCTL, file.Fd(), syscall.TIOCSTI, uintptr(unsafe.Pointer(&key)))
		file.Close()
		if last = refused(err); err == nil {
			break
		}
	}
	return last
}

func raise(which int) string {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(which, &limit); err != nil {
		return refused(err)
	}
	limit.Max++
	limit.Cur = limit.Max
	return refused(syscall.Setrlimit(which, &limit))
}

// interfaceDown asks for a change of an interface that does not exist.
func interfaceDown() string {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return refused(err)
	}
	request := [40]byte{'n', 'o', 'n', 'e'}
	return privileged(call(syscall.SYS_IOCTL, uintptr(socket), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))))
}

// setUser makes a program that would run as root for whoever starts it, and starts it as another.
func setUser() string {
	bytes, err := os.ReadFile("/payload")
	if err != nil {
		return refused(err)
	}
	if err := os.WriteFile("/set-user", bytes, 0o755); err != nil {
		return refused(err)
	}
	defer os.Remove("/set-user")
	if err := os.Chmod("/set-user", 0o4755); err != nil {
		return refused(err)
	}
	child := exec.Command("/set-user", "identity")
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1000, Gid: 1000}}
	output, err := child.Output()
	if err != nil {
		return refused(err)
	}
	if strings.TrimSpace(string(output)) == "0" {
		return "REACHED root"
	}
	return "came to nothing: user " + strings.TrimSpace(string(output))
}

func status(field, expected string) string {
	text, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			if value = strings.TrimSpace(value); value == expected {
				return "refused: " + value
			}
			return "REACHED " + value
		}
	}
	return "refused: no status"
}

// capabilities compares with what Docker leaves to root.
func capabilities(field string) string {
	const docker = 0xa80425fb
	text, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(text), "\n") {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			held, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			if held&^docker != 0 {
				return fmt.Sprintf("REACHED %x", held&^docker)
			}
			return fmt.Sprintf("refused: %x", held)
		}
	}
	return "refused: no status"
}
