package sim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh"
)

// receive makes peer i put the time at which each stream to it has ended into a channel.
func receive(n *Net, i int) <-chan time.Duration {
	start, ends := time.Now(), make(chan time.Duration, 100)
	n.Peer(i).Handle("/echo", func(_ mesh.ID, s mesh.Stream) {
		_, _ = io.Copy(io.Discard, s)
		ends <- time.Since(start)
		_ = s.Close()
	})
	return ends
}

// send writes size bytes from one peer to another in one write.
func send(t *testing.T, n *Net, from, to, size int) {
	s := open(t, n, from, to)
	if _, err := s.Write(make([]byte, size)); err != nil {
		t.Error(err)
	}
	_ = s.CloseWrite()
}

// A write is lost at most 20 times, and each time costs a round trip and 200 ms.
func TestLossIsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lasts = 10*time.Millisecond + 20*(20*time.Millisecond+200*time.Millisecond)
		n := New(2)
		defer n.Close()
		ends := receive(n, 1)
		s := open(t, n, 0, 1)
		n.SetLink(0, 1, Link{Latency: 10 * time.Millisecond, Loss: 1})
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = s.CloseWrite()
		if took := <-ends; took != lasts {
			t.Errorf("a write that is always lost took %v, want %v", took, lasts)
		}
	})
}

func TestEachDirectionHasItsOwnShape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(2)
		defer n.Close()
		n.SetLink(0, 1, Link{Bandwidth: 1 << 20})
		n.SetLink(1, 0, Link{Bandwidth: 1 << 18, Latency: 100 * time.Millisecond})
		for from, want := range []time.Duration{time.Second, 4*time.Second + 100*time.Millisecond} {
			ends := receive(n, 1-from)
			start := time.Now()
			s := open(t, n, from, 1-from)
			opened := time.Since(start)
			if _, err := s.Write(make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			_ = s.CloseWrite()
			if got := <-ends; got != want+opened || opened != 100*time.Millisecond {
				t.Errorf("1 MiB from %d took %v after %v to open, want %v after 100ms", from, got-opened, opened, want)
			}
		}
	})
}

func TestAccessIsSharedByAllLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New(4)
		defer n.Close()
		n.SetAccess(0, 1<<20, 1<<19)
		var ends []<-chan time.Duration
		for i := 1; i < 4; i++ {
			ends = append(ends, receive(n, i))
			send(t, n, 0, i, 1<<20)
		}
		for i, e := range ends {
			if got, want := <-e, time.Duration(i+1)*time.Second; got != want {
				t.Errorf("MiB %d left after %v, want %v", i, got, want)
			}
		}
		in := receive(n, 0)
		for i := 1; i < 4; i++ {
			send(t, n, i, 0, 1<<19)
		}
		for i := range 3 {
			if got, want := <-in, time.Duration(i+1)*time.Second; got != want {
				t.Errorf("half MiB %d came after %v, want %v", i, got, want)
			}
		}
	})
}

// A stream keeps its order whatever the delays of its writes; those are spread by jitter,
// and lost writes come later but come.
func TestJitterAndLoss(t *testing.T) {
	run := func(t *testing.T, l Link) []time.Duration {
		n := NewWith(Options{Peers: 2, Seed: 5, Latency: l.Latency, Jitter: l.Jitter, Loss: l.Loss})
		defer n.Close()
		arrivals := make(chan byte, 1000)
		n.Peer(1).Handle("/echo", func(_ mesh.ID, s mesh.Stream) {
			var b [1]byte
			for {
				if _, err := io.ReadFull(s, b[:]); err != nil {
					return
				}
				arrivals <- b[0]
			}
		})
		s := open(t, n, 0, 1)
		var took []time.Duration
		for k := range byte(40) {
			start := time.Now()
			_, _ = s.Write([]byte{k})
			if got := <-arrivals; got != k {
				t.Errorf("write %d came where %d was due", got, k)
			}
			took = append(took, time.Since(start))
		}
		for k := range byte(100) {
			_, _ = s.Write([]byte{k})
		}
		for k := range byte(100) {
			if got := <-arrivals; got != k {
				t.Errorf("write %d came where %d was due", got, k)
			}
		}
		slices.Sort(took)
		return took
	}
	synctest.Test(t, func(t *testing.T) {
		took := run(t, Link{Latency: 50 * time.Millisecond, Jitter: 0.5})
		if took[0] > 40*time.Millisecond || took[20] < 35*time.Millisecond || took[20] > 70*time.Millisecond || took[39] < 80*time.Millisecond {
			t.Errorf("with jitter writes take %v", took)
		}
		took = run(t, Link{Latency: 50 * time.Millisecond, Loss: 0.2})
		if took[0] != 50*time.Millisecond || took[20] != 50*time.Millisecond || took[39] < 50*time.Millisecond+resendAfter {
			t.Errorf("with loss writes take %v", took)
		}
	})
}

func TestStreamsOvertakeEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewWith(Options{Peers: 2, Seed: 1, Latency: 50 * time.Millisecond, Jitter: 1})
		defer n.Close()
		got := make(chan byte, 50)
		n.Peer(1).Handle("/echo", func(_ mesh.ID, s mesh.Stream) {
			var b [1]byte
			if _, err := io.ReadFull(s, b[:]); err == nil {
				got <- b[0]
			}
		})
		var streams []mesh.Stream
		for range 20 {
			streams = append(streams, open(t, n, 0, 1))
		}
		for k, s := range streams {
			_, _ = s.Write([]byte{byte(k)})
		}
		var order []byte
		for range streams {
			order = append(order, <-got)
		}
		if slices.IsSorted(order) {
			t.Error("20 streams arrived in the order in which they were written to")
		}
	})
}

func TestCutOneDirection(t *testing.T) {
	for _, relayed := range []bool{false, true} {
		t.Run(fmt.Sprintf("relayed %v", relayed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := NewWith(Options{Peers: 3, Detection: 2 * time.Second, Relayed: relayed})
				defer n.Close()
				echo(n, 1)
				ready(n, 3)
				s := open(t, n, 0, 1)
				n.Cut(1, 0, true)
				_, _ = s.Write([]byte("x"))
				_ = s.SetDeadline(time.Now().Add(time.Second))
				if _, err := s.Read(make([]byte, 1)); err == nil {
					t.Error("the answer passed the cut")
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := n.Peer(0).Open(ctx, ID(1), "/echo"); err == nil {
					t.Error("a stream was opened whose answer cannot come")
				}
				<-time.After(2 * time.Second)
				want := mesh.Dead
				if relayed {
					want = mesh.Alive
				}
				if got := state(n.Peer(0), 1); got != want {
					t.Errorf("who does not hear of peer 1 itself sees it %v, want %v", got, want)
				}
				if got := state(n.Peer(1), 0); got != mesh.Alive {
					t.Errorf("who hears of peer 0 sees it %v", got)
				}
				n.Cut(1, 0, false)
				synctest.Wait()
				if got := state(n.Peer(0), 1); got != mesh.Alive {
					t.Errorf("after the cut peer 1 is %v", got)
				}
			})
		})
	}
}

// A process that is stopped takes part in nothing, and goes on where it stood.
func TestStopAndContinue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewWith(Options{Peers: 2, Detection: 4 * time.Second})
		defer n.Close()
		echo(n, 1)
		ready(n, 2)
		s := open(t, n, 0, 1)
		n.Stop(0)
		calls := map[string]func(){
			"View":     func() { n.Peer(0).View() },
			"Announce": func() { n.Peer(0).Announce(mesh.Status{Ready: true}) },
			"Stand":    func() { n.Peer(0).Stand() },
			"Open": func() {
				if s, err := n.Peer(0).Open(t.Context(), ID(1), "/echo"); err == nil {
					_ = s.Close()
				}
			},
			"Write and Read": func() {
				b := []byte("hello")
				if _, err := s.Write(b); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(s, b); err != nil || !bytes.Equal(b, []byte("hello")) {
					t.Errorf("%q, %v", b, err)
				}
			},
		}
		done := make(chan string, len(calls))
		for name, call := range calls {
			go func() {
				call()
				done <- name
			}()
		}
		<-time.After(time.Second)
		if len(done) > 0 {
			t.Errorf("a stopped process went on: %s", <-done)
		}
		if got := state(n.Peer(1), 0); got != mesh.Alive {
			t.Errorf("after a second the stopped peer is %v", got)
		}
		n.Continue(0)
		for range calls {
			<-done
		}
		n.Stop(0)
		<-time.After(5 * time.Second)
		if got := state(n.Peer(1), 0); got != mesh.Dead {
			t.Errorf("after five seconds the stopped peer is %v", got)
		}
		n.Continue(0)
		synctest.Wait()
		if got := state(n.Peer(1), 0); got != mesh.Alive {
			t.Errorf("the peer that goes on is %v", got)
		}
		n.Stop(1)
		go func() { n.Peer(1).Stand(); done <- "killed" }()
		synctest.Wait()
		n.Kill(1)
		<-done
	})
}
