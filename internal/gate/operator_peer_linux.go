package gate

import (
	"errors"
	"net"
	"syscall"
)

// peerOf returns the id of the user whose process connected to the socket of conn.
func peerOf(conn *net.UnixConn) (uid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *syscall.Ucred
	var refused error
	err = raw.Control(func(fd uintptr) {
		credentials, refused = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err := errors.Join(err, refused); err != nil {
		return 0, err
	}
	return int(credentials.Uid), nil
}
