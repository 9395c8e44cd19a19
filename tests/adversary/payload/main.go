// What an attacker inside a step or container tries. Each action prints one line: its name, and that
// it was refused, came to nothing, or REACHED something. Nothing here does harm where it succeeds:
// files are opened and not written, signals are number 0, and calls that would change the machine
// have arguments that no kernel takes.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// What the host put there for the attacker to find.
var (
	canaryFile = os.Getenv("CANARY_FILE")
	canaryText = os.Getenv("CANARY_TEXT")
	hostPid    = os.Getenv("CANARY_PID")
	hostSocket = os.Getenv("CANARY_SOCKET")
	hostDevice = os.Getenv("CANARY_DEVICE")
	program    = os.Getenv("CANARY_PROGRAM")
)

func main() {
	switch os.Args[1] {
	case "escapes":
		for _, action := range actions {
			fmt.Println(">>", action.name, "=", action.attempt())
		}
	case "chroot":
		fmt.Println(leaveChroot())
	case "identity":
		fmt.Println(syscall.Geteuid())
	case "sniff":
		sniff(os.Args[2])
	case "dial":
		dial(os.Args[2:])
	default:
		fmt.Println("no such word:", os.Args[1])
		os.Exit(2)
	}
}

type action struct {
	name string
	try  func() string
}

func (a action) attempt() (result string) {
	defer func() {
		if wrong := recover(); wrong != nil {
			result = fmt.Sprint("came to nothing: ", wrong)
		}
	}()
	return a.try()
}

// refused tells a success as something that should not be.
func refused(err error) string {
	if err == nil {
		return "REACHED"
	}
	var number syscall.Errno
	if errors.As(err, &number) {
		return fmt.Sprintf("refused: %d %v", int(number), number)
	}
	return "refused: " + err.Error()
}

// call makes a raw call; errors in arguments show that nobody asked who was calling.
func call(number uintptr, args ...uintptr) error {
	var full [6]uintptr
	copy(full[:], args)
	_, _, errno := syscall.Syscall6(number, full[0], full[1], full[2], full[3], full[4], full[5])
	if errno == 0 {
		return nil
	}
	return errno
}

// privileged judges a call with arguments that cannot do anything: all but a refusal for want of
// rights, or of the call, means that it would have been made.
func privileged(err error) string {
	for _, number := range []syscall.Errno{syscall.EPERM, syscall.EACCES, syscall.ENOSYS} {
		if errors.Is(err, number) {
			return refused(err)
		}
	}
	return fmt.Sprint("REACHED the kernel: ", err)
}

// read tells whether a path leads to what only the host has.
func read(path string) string {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return refused(err)
	}
	defer file.Close()
	buffer := make([]byte, 1<<16)
	count, _ := file.Read(buffer)
	if strings.Contains(string(buffer[:count]), canaryText) {
		return "REACHED the host's file"
	}
	return "came to nothing: something else"
}

// openToWrite opens and closes; nothing is written.
func openToWrite(paths ...string) string {
	last := "came to nothing"
	for _, path := range paths {
		file, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			file.Close()
			return "REACHED " + path
		}
		last = refused(err)
	}
	return last
}
