package netem

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newBed makes a bed, or skips where this process may not.
func newBed(t *testing.T, nodes int, c Conditions) *Bed {
	t.Helper()
	b, err := New(nodes, 100e6, c, 1)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		t.Skip("NOT TESTED:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// A test binary that is started with this argument dials or listens instead of testing.
const helper = "netem-helper"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == helper {
		os.Exit(help(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func TestNamespacesAreJoinedDelayedAndCut(t *testing.T) {
	const delay = 30 * time.Millisecond
	b := newBed(t, 2, Conditions{Delay: delay, Jitter: time.Millisecond})
	start(t, b, 1, "listen").line(t) // it listens
	talk := func(size string) (echoed bool, took time.Duration) {
		t.Helper()
		began := time.Now()
		dialer := start(t, b, 0, "dial", Addr(1).String(), size)
		echoed = dialer.line(t) == "echoed"
		return echoed, time.Since(began)
	}
	// A handshake and an echo: at least two ways there and back.
	if ok, took := talk("100000"); !ok || took < 4*delay {
		t.Errorf("echoed %v after %v, want yes and no less than %v", ok, took, 4*delay)
	}
	b.Cut(1, 0, true)
	if ok, _ := talk("10"); ok {
		t.Error("an echo came through a cut")
	}
	b.Cut(1, 0, false)
	if ok, _ := talk("10"); !ok {
		t.Error("no echo after the cut is mended")
	}
	if s := b.Stats(); s.Cut == 0 || s.Delivered < 100000/mtu {
		t.Errorf("%+v", s)
	}
}

// What a node starts sees its own device and loopback, and nothing of this machine's.
func TestANamespaceHasItsOwnDevices(t *testing.T) {
	b := newBed(t, 1, Conditions{})
	var out bytes.Buffer
	cmd := exec.Command("ip", "-o", "link")
	cmd.Stdout = &out
	if err := b.Start(0, cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		name := strings.Fields(line)[1]
		if name != "lo:" && name != device+":" && !strings.Contains(line, "NOARP") && !strings.Contains(line, "DOWN") {
			t.Errorf("the namespace has %s", line)
		}
	}
	if !strings.Contains(out.String(), "tbf") {
		t.Errorf("no tbf in\n%s", out.String())
	}
}
