// Command socketclient is the least that a link handler could be: it connects to
// the Unix socket in BENCH_SERVER, writes its argument as one line, reads one line
// back and ends.
package main

import (
	"bufio"
	"net"
	"os"
)

func main() {
	conn, err := net.Dial("unix", os.Getenv("BENCH_SERVER"))
	if err != nil {
		os.Exit(3)
	}
	if _, err := conn.Write([]byte(os.Args[1] + "\n")); err != nil {
		os.Exit(3)
	}
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		os.Exit(3)
	}
}
