package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh"
)

func state(p *Peer, i int) mesh.State {
	members, _ := p.View()
	for _, m := range members {
		if m.ID == ID(i) {
			return m.State
		}
	}
	return mesh.Left + 1
}

func ready(n *Net, count int) {
	for i := range count {
		n.Peer(i).Announce(mesh.Status{Worker: i, Ready: true})
	}
	synctest.Wait()
}

// echo makes peer i answer every stream of the protocol with what it reads.
func echo(n *Net, i int) {
	n.Peer(i).Handle("/echo", func(_ mesh.ID, s mesh.Stream) {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
}

func open(t *testing.T, n *Net, from, to int) mesh.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := n.Peer(from).Open(ctx, ID(to), "/echo")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStreamTakesLatencyAndBandwidth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewWith(Options{Peers: 2, Latency: 40 * time.Millisecond, Bandwidth: 1 << 20, Buffer: 64 << 10})
		defer n.Close()
		got := make(chan []byte, 1)
		n.Peer(1).Handle("/echo", func(from mesh.ID, s mesh.Stream) {
			b, err := io.ReadAll(s)
			if err != nil || from != ID(0) {
				t.Errorf("read from %s: %v", from, err)
			}
			got <- b
		})
		want := bytes.Repeat([]byte("loco"), 1<<18) // 1 MiB: 1 s
		s := open(t, n, 0, 1)
		start := time.Now()
		if _, err := s.Write(want); err != nil {
			t.Fatal(err)
		}
		_ = s.CloseWrite()
		if !bytes.Equal(<-got, want) {
			t.Error("other bytes arrived")
		}
		// 16 windows of 64 KiB: each waits for the one before it to arrive.
		took := time.Since(start)
		if least, most := time.Second, time.Second+17*40*time.Millisecond; took < least || took > most {
			t.Errorf("took %v, want %v … %v", took, least, most)
		}
		_ = s.Close()
	})
}

func TestDeadlineInterruptsReadAndWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewWith(Options{Peers: 2, Buffer: 10})
		defer n.Close()
		n.Peer(1).Handle("/echo", func(mesh.ID, mesh.Stream) {})
		s := open(t, n, 0, 1)
		start := time.Now()
		_ = s.SetDeadline(start.Add(time.Second))
		if k, err := s.Write(make([]byte, 11)); k != 10 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %d, %v", k, err)
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		if time.Since(start) != time.Second {
			t.Errorf("took %v", time.Since(start))
		}
		_ = s.SetDeadline(time.Time{})
		go func() { _ = s.SetDeadline(time.Unix(1, 0)) }()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read with a deadline set while it waits: %v", err)
		}
	})
}

func TestKillAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewWith(Options{Peers: 3, Detection: 4 * time.Second})
		defer n.Close()
		echo(n, 1)
		ready(n, 3)
		if got := state(n.Peer(0), 1); got != mesh.Alive {
			t.Fatalf("peer 1 is %v", got)
		}
		s := open(t, n, 0, 1)
		old := n.Peer(1)
		n.Kill(1)
		if _, err := s.Read(make([]byte, 1)); err == nil {
			t.Error("a stream of a killed peer reads on")
		}
		for _, c := range []struct {
			after time.Duration
			want  mesh.State
		}{{1900 * time.Millisecond, mesh.Alive}, {200 * time.Millisecond, mesh.Suspect}, {2 * time.Second, mesh.Dead}} {
			<-time.After(c.after)
			if got := state(n.Peer(0), 1); got != c.want {
				t.Errorf("peer 1 is %v, want %v", got, c.want)
			}
		}
		if _, err := n.Peer(0).Open(t.Context(), ID(1), "/echo"); err == nil {
			t.Error("opened a stream to a dead peer")
		}
		_, changed := n.Peer(0).View()
		n.Restart(1)
		<-changed
		if got := state(n.Peer(0), 1); got != mesh.Joining {
			t.Errorf("restarted peer is %v", got)
		}
		if _, err := old.Open(t.Context(), ID(0), "/echo"); err == nil {
			t.Error("the former process opens streams")
		}
		if _, err := n.Peer(0).Open(t.Context(), ID(1), "/echo"); err == nil {
			t.Error("the new process has the handlers of the former")
		}
	})
}

func TestPartitionAndHeal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(4)
		defer n.Close()
		echo(n, 2)
		ready(n, 4)
		s := open(t, n, 0, 2)
		n.Partition([]int{0, 1}, []int{2, 3})
		_, _ = s.Write([]byte("x"))
		_ = s.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read across the partition: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := n.Peer(0).Open(ctx, ID(3), "/echo"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("open across the partition: %v", err)
		}
		<-time.After(time.Second)
		if state(n.Peer(0), 1) != mesh.Alive || state(n.Peer(0), 2) != mesh.Dead || state(n.Peer(3), 0) != mesh.Dead {
			t.Error("views do not show the partition")
		}
		n.Partition()
		synctest.Wait()
		if state(n.Peer(0), 2) != mesh.Alive {
			t.Error("the view does not show that it healed")
		}
	})
}

func TestPausedPeerAnswersLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(2)
		defer n.Close()
		echo(n, 1)
		ready(n, 2)
		s := open(t, n, 0, 1)
		n.Pause(1)
		_, _ = s.Write([]byte("x"))
		start := time.Now()
		time.AfterFunc(500*time.Millisecond, func() { n.Resume(1) })
		b := make([]byte, 1)
		if _, err := s.Read(b); err != nil || b[0] != 'x' || time.Since(start) != 500*time.Millisecond {
			t.Errorf("read %q, %v after %v", b, err, time.Since(start))
		}
	})
}

func TestCorruptAndBlackhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(2)
		defer n.Close()
		echo(n, 1)
		s := open(t, n, 0, 1)
		n.Corrupt(0, "/echo")
		b := make([]byte, 3)
		for _, want := range []string{"aqa", "aaa"} {
			_, _ = s.Write([]byte("aaa"))
			if _, err := io.ReadFull(s, b); err != nil || string(b) != want {
				t.Errorf("read %q, %v, want %q", b, err, want)
			}
		}
		n.Blackhole(0, "/echo", true)
		if k, err := s.Write([]byte("bbb")); k != 3 || err != nil {
			t.Errorf("write into the hole: %d, %v", k, err)
		}
		_ = s.SetDeadline(time.Now().Add(time.Second))
		if _, err := s.Read(b); err == nil {
			t.Error("something came out of the hole")
		}
	})
}

func TestLeaveIsSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewWith(Options{Peers: 2, Detection: time.Hour})
		defer n.Close()
		ready(n, 2)
		_, changed := n.Peer(0).View()
		_ = n.Peer(1).Close()
		<-changed
		if got := state(n.Peer(0), 1); got != mesh.Left {
			t.Errorf("peer 1 is %v", got)
		}
	})
}

func TestViewIsOrderedByWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(3)
		defer n.Close()
		for i := range 3 {
			n.Peer(i).Announce(mesh.Status{Worker: 10 - i, Ready: i > 0})
		}
		synctest.Wait()
		members, _ := n.Peer(0).View()
		got := ""
		for _, m := range members {
			got += fmt.Sprint(m.Worker, m.State, " ")
		}
		if want := "8 alive 9 alive 10 joining "; got != want {
			t.Errorf("view %q, want %q", got, want)
		}
	})
}

// pairOf is both ends of a stream from peer 0 to peer 1.
func pairOf(t *testing.T, n *Net) (a, b mesh.Stream) {
	t.Helper()
	ends := make(chan mesh.Stream)
	n.Peer(1).Handle("/echo", func(_ mesh.ID, s mesh.Stream) { ends <- s })
	a = open(t, n, 0, 1)
	return a, <-ends
}

// A stream that one end has reset, or closed, takes nothing from the other end, whichever
// of the two opened it; a reset drops what was on its way, a close does not.
func TestNothingIsWrittenToAnEndThatIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(mesh.Stream) error
		last string // what the other end still reads
		err  error
	}{
		"reset":  {mesh.Stream.Reset, "", errReset},
		"closed": {mesh.Stream.Close, "last words", nil},
	} {
		for _, opener := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				n := New(2)
				defer n.Close()
				near, far := pairOf(t, n)
				if !opener {
					near, far = far, near
				}
				if _, err := near.Write([]byte("last words")); err != nil {
					t.Fatal(err)
				}
				if err := c.end(near); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(far); string(got) != c.last || !errors.Is(err, c.err) {
					t.Errorf("%s, by the opener %v: the other end reads %q, %v", name, opener, got, err)
				}
				if _, err := far.Write([]byte("x")); !errors.Is(err, errReset) {
					t.Errorf("%s, by the opener %v: the other end writes: %v", name, opener, err)
				}
				for what, err := range map[string]error{"read": second(near.Read(make([]byte, 1))), "write": second(near.Write([]byte("x")))} {
					if !errors.Is(err, io.ErrClosedPipe) {
						t.Errorf("%s, by the opener %v: %s at this end: %v", name, opener, what, err)
					}
				}
			})
		}
	}
}

func second(_ int, err error) error { return err }

// A stopped process learns of a reset, and of anything else, when it goes on.
func TestStopHoldsEveryCall(t *testing.T) {
	for name, call := range map[string]func(n *Net, s mesh.Stream){
		"read":     func(_ *Net, s mesh.Stream) { s.Read(make([]byte, 1)) },
		"write":    func(_ *Net, s mesh.Stream) { s.Write([]byte("x")) },
		"view":     func(n *Net, _ mesh.Stream) { n.Peer(1).View() },
		"announce": func(n *Net, _ mesh.Stream) { n.Peer(1).Announce(mesh.Status{Worker: 1}) },
		"open":     func(n *Net, _ mesh.Stream) { n.Peer(1).Open(context.Background(), "nobody", "x") },
		"stand":    func(n *Net, _ mesh.Stream) { n.Peer(1).Stand() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := New(2)
				defer n.Close()
				a, b := pairOf(t, n)
				n.Stop(1)
				a.Reset()
				done := make(chan struct{})
				go func() { call(n, b); close(done) }()
				synctest.Wait()
				select {
				case <-done:
					t.Error("a stopped process goes on")
				default:
				}
				n.Continue(1)
				synctest.Wait()
				select {
				case <-done:
				default:
					t.Error("it does not go on")
				}
			})
		})
	}
}

// Streams between peers that have lost each other go silent, and break when one of the
// two is Dead to the other; streams on one side of a partition go on.
func TestAStreamBreaksWithDetection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const detection = 10 * time.Second
		n := NewWith(Options{Peers: 3, Detection: detection})
		defer n.Close()
		_, lost := pairOf(t, n)
		echo(n, 2)
		kept := open(t, n, 0, 2)
		start := time.Now()
		n.Partition([]int{0, 2})
		if _, err := lost.Read(make([]byte, 1)); !errors.Is(err, errReset) || time.Since(start) != detection {
			t.Errorf("across: %v after %v, want a reset after %v", err, time.Since(start), detection)
		}
		if _, err := kept.Write([]byte("x")); err != nil {
			t.Errorf("within: %v", err)
		}
		_ = kept.CloseWrite()
		if b, err := io.ReadAll(kept); string(b) != "x" || err != nil {
			t.Errorf("within: %q, %v", b, err)
		}
	})
}

// The end of a stream arrives once, however often it is announced.
func TestCloseWriteTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(2)
		defer n.Close()
		a, b := pairOf(t, n)
		n.SetLink(0, 1, Link{Latency: 10 * time.Millisecond})
		start := time.Now()
		_ = a.CloseWrite()
		<-time.After(5 * time.Millisecond)
		_ = a.CloseWrite()
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(start) != 10*time.Millisecond {
			t.Errorf("%v after %v, want the end after 10 ms", err, time.Since(start))
		}
	})
}
