package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// sniff listens in every way that there is to what goes over loopback, until the host has said its
// secret often enough.
func sniff(text string) {
	kinds := []struct {
		name                   string
		family, kind, protocol int
	}{
		{"packets", syscall.AF_PACKET, syscall.SOCK_RAW, 0x0300},
		{"datagrams of packets", syscall.AF_PACKET, syscall.SOCK_DGRAM, 0x0300},
		{"old packets", syscall.AF_INET, 10, 0x0300},
		{"raw TCP", syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_TCP},
		{"raw UDP", syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_UDP},
		{"raw TCP of version 6", syscall.AF_INET6, syscall.SOCK_RAW, syscall.IPPROTO_TCP},
		{"raw ICMP", syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP},
		{"everything raw", syscall.AF_INET, syscall.SOCK_RAW, 255},
	}
	for _, kind := range kinds {
		socket, err := syscall.Socket(kind.family, kind.kind, kind.protocol)
		if err != nil {
			fmt.Println(">>", kind.name, "=", refused(err))
			continue
		}
		fmt.Println(">>", kind.name, "=", listen(socket, text))
		syscall.Close(socket)
	}
	fmt.Println(">> the own interfaces =", interfaces())
}

func listen(socket int, text string) string {
	wait := syscall.Timeval{Usec: 50_000}
	syscall.SetsockoptTimeval(socket, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait)
	buffer := make([]byte, 1<<16)
	seen := 0
	for end := time.Now().Add(250 * time.Millisecond); time.Now().Before(end); {
		count, _, err := syscall.Recvfrom(socket, buffer, 0)
		if err != nil {
			continue
		}
		seen++
		if strings.Contains(string(buffer[:count]), text) {
			return "REACHED what others say"
		}
	}
	return fmt.Sprint("came to nothing: ", seen, " packets")
}

// interfaces tells whether the interfaces of the machine can be changed, by giving loopback the
// flags that it has.
func interfaces() string {
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return refused(err)
	}
	request := [40]byte{'l', 'o'}
	at := uintptr(unsafe.Pointer(&request))
	if err := call(syscall.SYS_IOCTL, uintptr(socket), syscall.SIOCGIFFLAGS, at); err != nil {
		return refused(err)
	}
	return refused(call(syscall.SYS_IOCTL, uintptr(socket), syscall.SIOCSIFFLAGS, at))
}

// dial connects to each address, and to the same port of every other address that could be the host.
func dial(addresses []string) {
	_, port, _ := net.SplitHostPort(addresses[0])
	for _, gateway := range gateways() {
		addresses = append(addresses, net.JoinHostPort(gateway, port))
	}
	for _, address := range addresses {
		connection, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			fmt.Println(">>", address, "=", refused(err))
			continue
		}
		connection.SetDeadline(time.Now().Add(time.Second))
		buffer := make([]byte, 64)
		count, _ := connection.Read(buffer)
		connection.Close()
		if strings.Contains(string(buffer[:count]), os.Getenv("CANARY_TEXT")) {
			fmt.Println(">>", address, "= REACHED the host's service")
		} else {
			fmt.Println(">>", address, "= came to nothing: somebody else")
		}
	}
}

// gateways are the next hops of the routes, and neighbours of the own addresses.
func gateways() []string {
	found := []string{"0.0.0.0", "10.0.2.2", "10.0.2.3", "169.254.1.1", "192.168.127.1"}
	table, _ := os.ReadFile("/proc/net/route")
	for _, line := range strings.Split(string(table), "\n") {
		fields := strings.Fields(line)
		var a, b, c, d byte
		if len(fields) > 2 {
			if count, _ := fmt.Sscanf(fields[2], "%02X%02X%02X%02X", &d, &c, &b, &a); count == 4 && a != 0 {
				found = append(found, fmt.Sprintf("%d.%d.%d.%d", a, b, c, d))
			}
		}
	}
	own, _ := net.InterfaceAddrs()
	for _, address := range own {
		if network, ok := address.(*net.IPNet); ok && network.IP.To4() != nil && !network.IP.IsLoopback() {
			first := network.IP.Mask(network.Mask).To4()
			first[3]++
			found = append(found, network.IP.String(), first.String())
		}
	}
	return found
}
