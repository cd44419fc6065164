package netem

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

const (
	helperPort = 4000
	helperTime = 3 * time.Second // that a helper waits for the other
)

// help is the life of a helper: "listen" echoes every connection until it is killed, "dial ADDR SIZE" sends
// bytes and reads them back.
func help(args []string) int {
	if args[0] == "listen" {
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", helperPort))
		if err != nil {
			return 1
		}
		fmt.Println("listening")
		for {
			c, err := l.Accept()
			if err != nil {
				return 1
			}
			go io.Copy(c, c)
		}
	}
	size, err := strconv.Atoi(args[2])
	if err != nil {
		return 1
	}
	c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", args[1], helperPort), helperTime)
	if err != nil {
		fmt.Println(err)
		return 0
	}
	c.SetDeadline(time.Now().Add(helperTime))
	go c.Write(make([]byte, size))
	if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
		fmt.Println(err)
		return 0
	}
	fmt.Println("echoed")
	return 0
}

// helperProcess is a helper in a node.
type helperProcess struct{ out *bufio.Scanner }

func start(t *testing.T, b *Bed, node int, args ...string) helperProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{helper}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(node, cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return helperProcess{bufio.NewScanner(out)}
}

// line is the next line that it prints.
func (h helperProcess) line(t *testing.T) string {
	t.Helper()
	if !h.out.Scan() {
		t.Fatal("a helper ended without a word")
	}
	return h.out.Text()
}
