package signin

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestTheUserOfTheOtherEndIsReadInTheKernelsTable(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	from, to := conn.LocalAddr().String(), l.Addr().String()
	local, remote := inTable(netip.MustParseAddrPort(from)), inTable(netip.MustParseAddrPort(to))
	if uid, ok := ownerOf("/proc/self/net/tcp", local, remote); !ok || uid != os.Getuid() {
		t.Errorf("the connection is of %d, %v", uid, ok)
	}
	if ofAnotherUser(from, to) {
		t.Error("a connection of our own is another user's")
	}
	for _, strange := range []string{"", "@", "[::1]:80", "127.0.0.1:1"} {
		if ofAnotherUser(strange, to) {
			t.Errorf("%q is known", strange)
		}
	}
	// As a connection of an IPv6 socket to an IPv4 address stands in the other table.
	table := filepath.Join(t.TempDir(), "tcp6")
	line := fmt.Sprintf("  sl  local_address remote_address st tx_queue rx_queue tr tm->when retrnsmt   uid\n"+
		"   7: 0000000000000000FFFF0000%s 0000000000000000FFFF0000%s 01 00000000:00000000 00:00000000 00000000 61002 0 4711\n", local, remote)
	if err := os.WriteFile(table, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if uid, ok := ownerOf(table, local, remote); !ok || uid != 61002 {
		t.Errorf("the connection is of %d, %v", uid, ok)
	}
	if _, ok := ownerOf(table, remote, local); ok {
		t.Error("the other end was taken for this one")
	}
}
