package signin

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// ofAnotherUser reports whether the system says that a connection to the port was made
// by a process of another user, root apart. from and to are the two ends as the port
// sees them. Where the system does not tell it is false.
//
// The state of a sign-in stands in the command line of the program that opens the
// page, which other users of the computer can read (proc_pid_cmdline(5)); with it they
// could hand in a sign-in of their own.
func ofAnotherUser(from, to string) bool {
	f, err1 := netip.ParseAddrPort(from)
	t, err2 := netip.ParseAddrPort(to)
	if err1 != nil || err2 != nil || !f.Addr().Unmap().Is4() || !t.Addr().Unmap().Is4() {
		return false
	}
	// A socket of either family may make the connection.
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		if uid, ok := ownerOf(table, inTable(f), inTable(t)); ok {
			return uid != 0 && uid != os.Getuid()
		}
	}
	return false
}

// inTable is how an address ends in the kernel's tables (proc_pid_net(5)).
func inTable(a netip.AddrPort) string {
	ip := a.Addr().Unmap().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(ip[:]), a.Port())
}

// ownerOf is the user of the socket whose own end is local and whose other end is
// remote.
func ownerOf(table, local, remote string) (uid int, ok bool) {
	f, err := os.Open(table)
	if err != nil {
		return 0, false
	}
	defer func() { _ = f.Close() }()
	// Number, local end, remote end, state, queues, timer, retransmits, user.
	const localEnd, remoteEnd, user = 1, 2, 7
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) <= user || !strings.HasSuffix(fields[localEnd], local) || !strings.HasSuffix(fields[remoteEnd], remote) {
			continue
		}
		uid, err := strconv.Atoi(fields[user])
		return uid, err == nil
	}
	return 0, false
}
