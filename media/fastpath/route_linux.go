package fastpath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// RouteTo asks the kernel how it would send to an address, from one of its own unless that is the zero.
func RouteTo(to, from netip.Addr) (Route, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return Route{}, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, question(to, from), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return Route{}, os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 8192)
	n, _, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return Route{}, os.NewSyscallError("recvfrom", err)
	}
	r, err := answer(buf[:n])
	if err != nil {
		return Route{}, fmt.Errorf("route to %v: %w", to, err)
	}
	if from.IsValid() { // which the kernel does not repeat
		r.From = from
	}
	if r.Interface == 0 || !r.From.IsValid() {
		return Route{}, fmt.Errorf("route to %v: half of it in the answer", to)
	}
	return r, nil
}

// question is an RTM_GETROUTE (rtnetlink(7)).
func question(to, from netip.Addr) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofRtMsg)
	body := b[unix.SizeofNlMsghdr:]
	body[0], body[1] = unix.AF_INET, 32
	add := func(kind uint16, a netip.Addr) {
		b = binary.NativeEndian.AppendUint16(b, 8)
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = append(b, a.AsSlice()...)
	}
	add(unix.RTA_DST, to)
	if from.IsValid() {
		body[2] = 32
		add(unix.RTA_SRC, from)
	}
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.RTM_GETROUTE)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	return b
}

func answer(b []byte) (Route, error) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil || len(messages) == 0 {
		return Route{}, errors.Join(errors.New("no answer"), err)
	}
	m := messages[0]
	if m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4 {
		return Route{}, syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
	}
	if m.Header.Type != unix.RTM_NEWROUTE || len(m.Data) < unix.SizeofRtMsg {
		return Route{}, errors.New("no route in the answer")
	}
	if kind := m.Data[7]; kind != unix.RTN_UNICAST && kind != unix.RTN_LOCAL {
		return Route{}, fmt.Errorf("of type %d", kind)
	}
	attrs, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return Route{}, err
	}
	var r Route
	for _, a := range attrs {
		switch {
		case a.Attr.Type == unix.RTA_OIF && len(a.Value) == 4:
			r.Interface = int(binary.NativeEndian.Uint32(a.Value))
		case a.Attr.Type == unix.RTA_PREFSRC && len(a.Value) == 4:
			r.From = netip.AddrFrom4([4]byte(a.Value))
		}
	}
	return r, nil
}

// Changes is told of by the kernel: interfaces, addresses, routes and rules.
type Changes struct{ f *os.File }

// WatchRoutes begins to listen for changes of what Route and Attach have found.
func WatchRoutes() (*Changes, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	groups := uint32(1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV4_RULE-1))
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("bind", err)
	}
	return &Changes{os.NewFile(uintptr(fd), "netlink")}, nil
}

// Next waits for the next change; false = Close was called.
func (c *Changes) Next() bool {
	buf := make([]byte, 16384)
	_, err := c.f.Read(buf)
	return err == nil || errors.Is(err, unix.ENOBUFS) // there were more than it could hold
}

// Close ends Next.
func (c *Changes) Close() error { return c.f.Close() }
