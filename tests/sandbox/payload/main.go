// Payload is the static program that runs inside the sandbox under test. It prints what it sees.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	commands := map[string]func([]string){
		"true": func([]string) {}, "exit": exit, "status": status, "ls": list, "cat": cat, "write": write,
		"append": appendTo, "probe": probe, "calls": calls, "fds": descriptors, "abstract": abstract, "dial": dial,
		"serve-self": serveSelf, "serve": serve,
		"owners": owners, "device": device, "become": become, "make-as-user": makeAsUser,
		"pass-group-on": passGroupOn, "change-group": changeGroup,
		"chown-outside": chownOutside, "tree": tree, "chown-tree": chownTree, "lmode": linkMode, "orphan": orphan, "hold": hold, "bomb": bomb, "sleep": sleep,
		"trap": trap, "ignore": ignore, "kill-self": killSelf, "env": environment, "id": id,
		"pwd": pwd, "tty": terminal, "winch": windowChange, "block-device": blockDevice,
		"statfs": fileSystem, "ptrace": trace, "hostname": hostname, "getpid": pids, "mode": mode,
		"mkfile": write, "interfaces": interfaces, "socket": socket, "sniff": sniff, "listen": listen,
		"reach": reach, "lookup": lookUp,
		"setcap": setCapability,
	}
	command, known := commands[os.Args[1]]
	if !known {
		fail(errors.New("no such command: " + os.Args[1]))
	}
	command(os.Args[2:])
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// say prints the answer of a call that is expected to fail: its errno by name.
func say(name string, err error) {
	var errno syscall.Errno
	switch {
	case err == nil:
		fmt.Println(name, "ok")
	case errors.As(err, &errno):
		fmt.Println(name, errnoName(errno))
	default:
		fmt.Println(name, err)
	}
}

func errnoName(errno syscall.Errno) string {
	names := map[syscall.Errno]string{
		syscall.EPERM: "EPERM", syscall.EACCES: "EACCES", syscall.ENOENT: "ENOENT", syscall.ENOSYS: "ENOSYS",
		syscall.EROFS: "EROFS", syscall.ECONNREFUSED: "ECONNREFUSED", syscall.EINVAL: "EINVAL",
		syscall.ENETUNREACH: "ENETUNREACH", syscall.ENXIO: "ENXIO", syscall.ENOTDIR: "ENOTDIR", 0: "ok",
	}
	if name, known := names[errno]; known {
		return name
	}
	return "errno-" + strconv.Itoa(int(errno))
}

// stay never returns. An empty select would, with nothing else to run, be a deadlock to the runtime.
func stay() {
	for {
		time.Sleep(time.Hour)
	}
}

func exit(args []string) {
	code, _ := strconv.Atoi(args[0])
	os.Exit(code)
}

func status(fields []string) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fail(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		name, value, _ := strings.Cut(line, ":")
		for _, field := range fields {
			if field == name {
				fmt.Println(name, strings.TrimSpace(value))
			}
		}
	}
}

func list(args []string) {
	entries, err := os.ReadDir(args[0])
	if err != nil {
		fail(err)
	}
	for _, entry := range entries {
		fmt.Println(entry.Name())
	}
}

func cat(args []string) {
	for _, path := range args {
		file, err := os.Open(path)
		if err != nil {
			fail(err)
		}
		io.Copy(os.Stdout, file)
	}
}

func write(args []string) {
	if err := os.WriteFile(args[0], []byte(args[1]), 0o644); err != nil {
		fail(err)
	}
}

func appendTo(args []string) {
	file, err := os.OpenFile(args[0], os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		fail(err)
	}
	fmt.Fprint(file, args[1])
}

// probe opens each path as asked (r:PATH, w:PATH, l:PATH for readlink) and tells how that went.
func probe(args []string) {
	for _, arg := range args {
		how, path, _ := strings.Cut(arg, ":")
		var err error
		switch how {
		case "r":
			var file *os.File
			if file, err = os.Open(path); err == nil {
				_, err = file.Read(make([]byte, 1))
				if err == io.EOF {
					fmt.Println(arg, "empty")
					continue
				}
			}
		case "w":
			_, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
		case "l":
			_, err = os.Readlink(path)
		}
		say(arg, err)
	}
}

func calls([]string) {
	raw := func(name string, number uintptr, args ...uintptr) {
		var full [6]uintptr
		copy(full[:], args)
		_, _, errno := syscall.RawSyscall6(number, full[0], full[1], full[2], full[3], full[4], full[5])
		fmt.Println(name, errnoName(errno))
	}
	const newUser = 0x10000000
	raw("clone-newuser", syscall.SYS_CLONE, newUser|uintptr(syscall.SIGCHLD))
	raw("clone3", 435, 0, 0)
	raw("unshare", syscall.SYS_UNSHARE, newUser)
	raw("mount", syscall.SYS_MOUNT)
	raw("open_tree", 428)
	raw("io_uring_setup", 425)
	raw("bpf", sysBPF)
	raw("keyctl", sysKeyctl)
	raw("socket-alg", syscall.SYS_SOCKET, 38, 5, 0)
	raw("socket-vsock", syscall.SYS_SOCKET, 40, 1, 0)
	raw("socket-unix", syscall.SYS_SOCKET, 1, 1, 0)
	raw("personality-query", syscall.SYS_PERSONALITY, 0xffffffff)
	raw("personality-no-random", syscall.SYS_PERSONALITY, 0x0040000)
	raw("not-invented-yet", 460)
	raw("far-future", 9999)
}

// descriptors prints every open descriptor but the runtime's own.
func descriptors([]string) {
	for number := 0; number < 4096; number++ {
		target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", number))
		if err == nil && !strings.Contains(target, "anon_inode:[event") {
			fmt.Println(number)
		}
	}
}

func abstract(args []string) {
	_, err := net.Dial("unix", "@"+args[0])
	say("connect", err)
}

func dial(args []string) {
	connection, err := net.DialTimeout("tcp", args[0], 5*time.Second)
	if err == nil {
		io.Copy(os.Stdout, connection)
	}
	say("dial", err)
}

// reach tells of each address whether somebody takes connections there.
func reach(args []string) {
	for _, address := range args {
		connection, err := net.DialTimeout("tcp", address, 2*time.Second)
		if err != nil {
			fmt.Println(address, "shut")
			continue
		}
		fmt.Println(address, "open")
		connection.Close()
	}
}

func lookUp(args []string) {
	addresses, err := net.LookupHost(args[0])
	if err != nil {
		fail(err)
	}
	fmt.Println(strings.Join(addresses, " "))
}

func socket(args []string) {
	family, _ := strconv.Atoi(args[0])
	_, err := syscall.Socket(family, syscall.SOCK_DGRAM, 0)
	say("socket", err)
}

// sniff reads what other processes say on the loopback device, until it hears the word.
func sniff(args []string) {
	const every = 0x0300 // ETH_P_ALL in the network's order
	device, err := net.InterfaceByName("lo")
	if err != nil {
		fail(err)
	}
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, every)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: every, Ifindex: device.Index})
	}
	if err != nil {
		say("sniff", err)
		_, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP)
		say("raw", err)
		return
	}
	fmt.Println("ready")
	packet := make([]byte, 1<<16)
	for {
		count, _, err := syscall.Recvfrom(fd, packet, 0)
		if err != nil {
			fail(err)
		}
		if strings.Contains(string(packet[:count]), args[0]) {
			fmt.Println("heard", args[0])
			return
		}
	}
}

func listen(args []string) {
	_, err := net.Listen("tcp", args[0])
	say("listen", err)
}

// setCapability gives a file the right to raw sockets, as package managers do for ping, and reads it back.
func setCapability(args []string) {
	value := []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := syscall.Setxattr(args[0], "security.capability", value, 0); err != nil {
		say("setcap", err)
		return
	}
	kept := make([]byte, 64)
	count, err := syscall.Getxattr(args[0], "security.capability", kept)
	if err == nil && string(kept[:count]) != string(value) {
		err = fmt.Errorf("%x", kept[:count])
	}
	say("setcap", err)
}

// serveSelf listens on loopback and talks to itself.
func serveSelf([]string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	go func() {
		connection, _ := listener.Accept()
		fmt.Fprintln(connection, "hello")
		connection.Close()
	}()
	dial([]string{listener.Addr().String()})
}

// serve greets whoever connects.
func serve(args []string) {
	listener, err := net.Listen("tcp", args[0])
	if err != nil {
		fail(err)
	}
	fmt.Println("ready")
	for {
		connection, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		fmt.Fprintln(connection, "hello")
		connection.Close()
	}
}

func interfaces([]string) {
	all, err := net.Interfaces()
	if err != nil {
		fail(err)
	}
	for _, one := range all {
		fmt.Println(one.Name)
	}
}

func lock(path string) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		fail(err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		fail(err)
	}
	keep = append(keep, file)
}

var keep []*os.File

// orphan leaves a daemon behind that holds the lock and standard output, and ends.
func orphan(args []string) {
	child := exec.Command("/payload", "hold", args[0])
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	child.Stdout = os.Stdout
	ready, err := child.StderrPipe()
	if err != nil {
		fail(err)
	}
	if err := child.Start(); err != nil {
		fail(err)
	}
	ready.Read(make([]byte, 1))
}

// hold takes the lock, says so on standard error, and stays.
func hold(args []string) {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	lock(args[0])
	fmt.Fprintln(os.Stderr, "held")
	stay()
}

// bomb starts copies of itself without end; each holds the file open.
func bomb(args []string) {
	if file, err := os.Open(args[0]); err == nil {
		syscall.Flock(int(file.Fd()), syscall.LOCK_SH)
		keep = append(keep, file)
	}
	for {
		child := exec.Command("/payload", "bomb", args[0])
		if child.Start() != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func sleep([]string) {
	fmt.Println("ready")
	stay()
}

// trap ends with code 7 on SIGTERM.
func trap([]string) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGTERM)
	fmt.Println("ready")
	<-caught
	os.Exit(7)
}

func ignore([]string) {
	signal.Ignore(syscall.SIGINT)
	fmt.Println("ready")
	stay()
}

func killSelf(args []string) {
	number, _ := strconv.Atoi(args[0])
	syscall.Kill(os.Getpid(), syscall.Signal(number))
	stay()
}

func environment([]string) {
	all := os.Environ()
	sort.Strings(all)
	fmt.Println(strings.Join(all, "\n"))
}

func id([]string) {
	groups, _ := os.Getgroups()
	fmt.Println(os.Getuid(), os.Getgid(), groups)
}

func pwd([]string) {
	folder, err := os.Getwd()
	if err != nil {
		fail(err)
	}
	fmt.Println(folder)
}

type size struct{ Rows, Columns, X, Y uint16 }

func windowSize() size {
	var found size
	syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&found)))
	return found
}

func terminal([]string) {
	name, _ := os.Readlink("/proc/self/fd/0")
	found := windowSize()
	_, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	fmt.Println(name, found.Rows, found.Columns, err == nil, os.Getenv("TERM"))
}

func windowChange([]string) {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	fmt.Println("ready")
	<-changed
	found := windowSize()
	fmt.Println(found.Rows, found.Columns)
}

// blockDevice makes a node for the device that holds PATH's file system and tries to read it.
func blockDevice(args []string) {
	device, _ := strconv.Atoi(args[0])
	err := syscall.Mknod("/disk", syscall.S_IFBLK|0o600, device)
	say("mknod", err)
	if err == nil {
		_, err = os.Open("/disk")
		say("open", err)
	}
}

func fileSystem(args []string) {
	var found syscall.Statfs_t
	if err := syscall.Statfs(args[0], &found); err != nil {
		fail(err)
	}
	fmt.Printf("%x\n", found.Type)
}

func mode(args []string) {
	found, err := os.Stat(args[0])
	if err != nil {
		fail(err)
	}
	stat := found.Sys().(*syscall.Stat_t)
	fmt.Printf("%o %d %d\n", stat.Mode&0o7777, stat.Uid, stat.Gid)
}

func trace(args []string) {
	pid, _ := strconv.Atoi(args[0])
	say("ptrace", syscall.PtraceAttach(pid))
}

func hostname([]string) {
	name, err := os.Hostname()
	if err != nil {
		fail(err)
	}
	fmt.Println(name)
}

func pids([]string) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		fail(err)
	}
	for _, entry := range entries {
		if number, err := strconv.Atoi(entry.Name()); err == nil {
			fmt.Print(number, " ")
		}
	}
	fmt.Println()
}
