package p2p

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"loco/mesh"
	"loco/mesh/meshtest"
)

// child makes this test binary one member of a run, for tests that kill processes.
var child = flag.String("p2p.child", "", "join the member at this address and wait for the end of standard input")

func TestMain(m *testing.M) {
	flag.Parse()
	if *child != "" {
		if err := runChild(*child); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runChild(bootstrap string) error {
	c := Default()
	c.RunID, c.Worker, c.Bootstrap = testRun, 1, []string{bootstrap}
	m, err := New(context.Background(), c)
	if err != nil {
		return err
	}
	defer m.Close()
	m.Announce(mesh.Status{Ready: true})
	fmt.Println(m.Self())
	io.Copy(io.Discard, os.Stdin) // ends with the parent at the latest
	return nil
}

// A killed process is not alive any more for the others within the time that the
// default settings promise: its sockets are closed with it.
func TestKill9(t *testing.T) {
	config := testConfig(t)
	def := Default()
	config.Heartbeat, config.SuspectAfter, config.DeadAfter, config.DeadAfterRefused = def.Heartbeat, def.SuspectAfter, def.DeadAfter, def.DeadAfterRefused
	m := mustNew(t, config)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-p2p.child="+m.Addrs()[0])
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	id := mesh.ID(line[:len(line)-1])
	state := func(want ...mesh.State) func([]mesh.Member) bool {
		return func(ms []mesh.Member) bool {
			for _, v := range ms {
				for _, s := range want {
					if v.ID == id && v.State == s {
						return true
					}
				}
			}
			return false
		}
	}
	meshtest.Await(t, m, "want the child alive", state(mesh.Alive))
	start := time.Now()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	meshtest.Await(t, m, "want the child suspect", state(mesh.Suspect, mesh.Dead))
	suspect := time.Since(start)
	meshtest.Await(t, m, "want the child dead", state(mesh.Dead))
	t.Logf("killed: not alive after %v, dead after %v", suspect.Round(time.Millisecond), time.Since(start).Round(time.Millisecond))
}
