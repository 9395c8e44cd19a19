package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"
)

func must(err error) {
	if err != nil {
		fail(err)
	}
}

func sayOwner(name string, stat *syscall.Stat_t, more ...any) {
	fmt.Println(append([]any{name, stat.Uid, stat.Gid}, more...)...)
}

func lstat(path string) *syscall.Stat_t {
	var stat syscall.Stat_t
	must(syscall.Lstat(path, &stat))
	return &stat
}

// owners gives files away in every way that there is, and asks whose they are.
func owners([]string) {
	os.RemoveAll("/owned")
	must(os.Mkdir("/owned", 0o755))
	must(os.WriteFile("/owned/file", nil, 0o644))
	must(os.WriteFile("/owned/target", nil, 0o644))
	must(os.Symlink("target", "/owned/link"))
	must(syscall.Chown("/owned/file", 7, 8))
	stat := lstat("/owned/file")
	sayOwner("file", stat, fmt.Sprintf("%o", stat.Mode))
	file, err := os.Open("/owned/file")
	must(err)
	var open syscall.Stat_t
	must(syscall.Fstat(int(file.Fd()), &open))
	sayOwner("open", &open)
	statxOwner("/owned/file")
	must(syscall.Fchown(int(file.Fd()), -1, 9))
	sayOwner("group-only", lstat("/owned/file"))
	must(syscall.Lchown("/owned/link", 5, 6))
	sayOwner("link", lstat("/owned/link"))
	sayOwner("target", lstat("/owned/target"))
	must(syscall.Chmod("/owned/file", 0o4755))
	fmt.Printf("setuid %o\n", lstat("/owned/file").Mode)
	must(syscall.Fchownat(atCurrentFolder, "/owned/file", 3, 4, 0))
	stat = lstat("/owned/file")
	sayOwner("chowned", stat, fmt.Sprintf("%o", stat.Mode))
	must(os.Chdir("/owned"))
	must(syscall.Chown("../owned", 10, 11))
	sayOwner("folder", lstat("."))
	must(syscall.Chown("target", 1, 1))
	must(syscall.Chown("target", 0, 0))
	sayOwner("back", lstat("target"))
	say("missing", syscall.Chown("/owned/missing", 1, 1))
}

const atCurrentFolder = -100

func statxOwner(path string) {
	var buffer [256]byte
	name, err := syscall.BytePtrFromString(path)
	must(err)
	folder := atCurrentFolder
	_, _, errno := syscall.Syscall6(sysStatx, uintptr(folder), uintptr(unsafe.Pointer(name)), 0, 0xfff, uintptr(unsafe.Pointer(&buffer)), 0)
	if errno != 0 {
		fail(errno)
	}
	fmt.Println("statx", binary.NativeEndian.Uint32(buffer[20:]), binary.NativeEndian.Uint32(buffer[24:]))
}

func device(args []string) {
	os.Remove(args[0])
	syscall.Umask(0)
	say("mknod", syscall.Mknod(args[0], syscall.S_IFCHR|0o666, 1<<8|3))
	stat := lstat(args[0])
	fmt.Printf("c %d %d %o\n", stat.Rdev>>8&0xfff, stat.Rdev&0xff, stat.Mode)
}

// become changes the user for good and starts a child.
func become([]string) {
	fmt.Println("first", os.Getuid(), os.Getgid())
	must(os.WriteFile("/roots", nil, 0o644))
	asUser()
	groups, _ := os.Getgroups()
	fmt.Println("changed", os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), groups)
	say("chown", syscall.Chown("/roots", 7, 8))
	say("back", syscall.Setuid(0))
	child := exec.Command("/payload", "id")
	output, err := child.Output()
	must(err)
	fmt.Print("child ", string(output))
}

func asUser() {
	must(syscall.Setgroups([]int{9, 10}))
	must(syscall.Setresgid(8, 8, 8))
	must(syscall.Setresuid(7, 7, 7))
}

// passGroupOn makes things in a folder that passes its group on, and in one that does not any more.
func passGroupOn([]string) {
	os.RemoveAll("/passing")
	must(os.Mkdir("/passing", 0o755))
	must(syscall.Chown("/passing", 0, 8))
	must(syscall.Chmod("/passing", 0o2775))
	made := func(name string) {
		stat := lstat(name)
		sayOwner(filepath.Base(name), stat, fmt.Sprintf("%o", stat.Mode))
	}
	must(os.WriteFile("/passing/file", nil, 0o644))
	made("/passing/file")
	must(os.Mkdir("/passing/folder", 0o755))
	made("/passing/folder")
	must(os.Chdir("/passing/folder"))
	must(os.WriteFile("inside", nil, 0o600))
	must(os.WriteFile("inside", []byte("again"), 0o600))
	made("inside")
	must(os.Symlink("inside", "../link"))
	made("/passing/link")
	must(syscall.Chmod("/passing", 0o775))
	must(os.WriteFile("/passing/later", nil, 0o644))
	made("/passing/later")
}

// changeGroup gives a file of the user's own to each of the groups.
func changeGroup(args []string) {
	must(os.WriteFile(args[0], nil, 0o644))
	for _, arg := range args[1:] {
		group, err := strconv.Atoi(arg)
		must(err)
		say("group "+arg, syscall.Chown(args[0], -1, group))
	}
	sayOwner("now", lstat(args[0]))
}

// makeAsUser makes files as a user who may.
func makeAsUser(args []string) {
	os.RemoveAll(args[0])
	must(os.Mkdir(args[0], 0o777))
	must(os.Chmod(args[0], 0o777))
	asUser()
	must(os.Chdir(args[0]))
	must(os.WriteFile("file", []byte("text"), 0o600))
	sayOwner("file", lstat("file"))
	must(os.WriteFile("file", []byte("more"), 0o600))
	sayOwner("again", lstat("file"))
	_, err := os.OpenFile("file", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, syscall.EEXIST) {
		fmt.Println("exclusive EEXIST")
	}
	must(os.Mkdir("folder", 0o755))
	sayOwner("folder", lstat("folder"))
	must(os.Symlink("file", "link"))
	sayOwner("link", lstat("link"))
}

// chownOutside tries to reach files of the host by way of what process 1 has open.
func chownOutside(args []string) {
	for number := range 64 {
		for _, way := range []string{"/proc/1/fd/%d/%s", "/proc/1/task/1/fd/%d/%s", "/proc/self/fd/%d/%s", "/proc/thread-self/fd/%d/%s"} {
			os.Lchown(fmt.Sprintf(way, number, args[0]), 7, 8)
			os.Chown(fmt.Sprintf(way, number, "."), 7, 8)
			syscall.Mknod(fmt.Sprintf(way, number, "new"), syscall.S_IFCHR|0o666, 1<<8|3)
		}
		os.Symlink(fmt.Sprintf("/proc/self/fd/%d", number), "/way")
		os.Chown("/way/"+args[0], 7, 8)
		os.Remove("/way")
	}
	os.Chown("/../../"+args[0], 7, 8)
}

func tree(args []string) {
	count, _ := strconv.Atoi(args[1])
	for number := range count {
		folder := filepath.Join(args[0], strconv.Itoa(number/100))
		must(os.MkdirAll(folder, 0o755))
		must(os.WriteFile(filepath.Join(folder, strconv.Itoa(number)), nil, 0o644))
	}
}

func chownTree(args []string) {
	must(filepath.Walk(args[0], func(path string, _ os.FileInfo, err error) error {
		must(err)
		return os.Lchown(path, 7, 8)
	}))
}

func linkMode(args []string) {
	stat := lstat(args[0])
	fmt.Printf("%o %d %d\n", stat.Mode&0o7777, stat.Uid, stat.Gid)
}
