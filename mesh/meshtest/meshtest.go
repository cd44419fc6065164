// Package meshtest holds every implementation of mesh.Mesh to the contract.
//
// [Run] and [RunVirtual] start small meshes with the given function and watch them from
// outside, through the interface alone. Nothing in it reads a clock except to give up: it
// waits for conditions, so an implementation on a simulated network runs it too.
package meshtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"loco/mesh"
)

// Peer is one member of a mesh under test.
type Peer struct {
	Mesh  mesh.Mesh
	Leave func() // says goodbye and closes; may be called again, and after Kill
	Kill  func() // ends at once, as kill -9 does: no goodbye; may be called again

	// Restart starts the next process of the same identity and number, after Leave or Kill; nil
	// where the bed cannot. Cut takes the peer off the network, or brings it back; nil likewise.
	Restart func() mesh.Mesh
	Cut     func(on bool)
}

// Start makes n peers of one run whose workers are numbered 0 to n−1, in the order
// of the slice, all Joining. It ends them with t.Cleanup if the test has not.
type Start func(t *testing.T, n int) []Peer

// giveUp bounds every wait: long enough for a loaded machine.
const giveUp = 20 * time.Second

const echo = "meshtest-echo/1.0.0"

// Run runs the conformance suite.
func Run(t *testing.T, start Start) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.test(t, start) })
	}
}

// RunVirtual runs the conformance suite in virtual time, each case in a bubble of its own,
// which fails where a goroutine is left.
func RunVirtual(t *testing.T, start Start) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.test(t, start) })
		})
	}
}

var cases = []struct {
	name string
	test func(*testing.T, Start)
}{
	{"ViewConverges", viewConverges},
	{"StatusPropagates", statusPropagates},
	{"ChangedFires", changedFires},
	{"BegunFires", begunFires},
	{"Echo", echoes},
	{"HandlerRemoved", handlerRemoved},
	{"OpenUnknown", openUnknown},
	{"OpenEndsWithContext", openEndsWithContext},
	{"DeadlineRespected", deadlineRespected},
	{"ResetSeen", resetSeen},
	{"HalfClose", halfClose},
	{"ConcurrentStreams", concurrentStreams},
	{"LargeTransfer", largeTransfer},
	{"LeaveSeen", leaveSeen},
	{"KillSeen", killSeen},
	{"RestartSeen", restartSeen},
	{"PartitionHeals", partitionHeals},
	{"EndTwice", endTwice},
	{"NothingLeftBehind", nothingLeftBehind},
}

// Await waits until the view of m satisfies ok, and fails the test with what it
// last saw if it does not.
func Await(t *testing.T, m mesh.Mesh, what string, ok func([]mesh.Member) bool) []mesh.Member {
	t.Helper()
	deadline := time.NewTimer(giveUp)
	defer deadline.Stop()
	for {
		members, changed := m.View()
		if ok(members) {
			return members
		}
		// Not every field that a condition may read fires changed.
		again := time.NewTimer(50 * time.Millisecond)
		select {
		case <-changed:
		case <-again.C:
		case <-deadline.C:
			again.Stop()
			t.Fatalf("%s: %s; last view %+v", m.Self(), what, members)
		}
		again.Stop()
	}
}

// Live reports how many of the members are neither dead nor left.
func Live(members []mesh.Member) int {
	n := 0
	for _, m := range members {
		if m.State != mesh.Dead && m.State != mesh.Left {
			n++
		}
	}
	return n
}

// Find returns the member with an ID, which must be there.
func Find(t *testing.T, members []mesh.Member, id mesh.ID) mesh.Member {
	t.Helper()
	for _, m := range members {
		if m.ID == id {
			return m
		}
	}
	t.Fatalf("%s is not in the view %+v", id, members)
	return mesh.Member{}
}

// Converge waits until every peer sees n live members.
func Converge(t *testing.T, peers []Peer, n int) {
	t.Helper()
	for _, p := range peers {
		Await(t, p.Mesh, fmt.Sprintf("want %d live members", n), func(ms []mesh.Member) bool { return Live(ms) == n })
	}
}

func stateIs(id mesh.ID, states ...mesh.State) func([]mesh.Member) bool {
	return func(members []mesh.Member) bool {
		for _, m := range members {
			for _, s := range states {
				if m.ID == id && m.State == s {
					return true
				}
			}
		}
		return false
	}
}

func viewConverges(t *testing.T, start Start) {
	peers := start(t, 4)
	Converge(t, peers, 4)
	for i, p := range peers {
		members, _ := p.Mesh.View()
		for w, m := range members {
			if m.Worker != w || m.ID != peers[w].Mesh.Self() {
				t.Errorf("peer %d: place %d has worker %d, ID %s; want worker %d, ID %s", i, w, m.Worker, m.ID, w, peers[w].Mesh.Self())
			}
			if m.State != mesh.Joining || m.Ready {
				t.Errorf("peer %d: worker %d is %s, ready %v before it announced anything", i, w, m.State, m.Ready)
			}
		}
		if own := Find(t, members, p.Mesh.Self()); own.Silent != 0 {
			t.Errorf("peer %d: silent for %v to itself", i, own.Silent)
		}
	}
	// A view is the caller's: changing it changes nothing.
	members, _ := peers[0].Mesh.View()
	members[0].Worker = 99
	if again, _ := peers[0].Mesh.View(); again[0].Worker != 0 {
		t.Error("writing to a view changed the next one")
	}
}

func statusPropagates(t *testing.T, start Start) {
	peers := start(t, 3)
	Converge(t, peers, 3)
	want := mesh.Status{Worker: 1, Ready: true, Round: 7, Step: 700, Tokens: 1 << 40}
	peers[1].Mesh.Announce(want)
	for _, p := range peers {
		Await(t, p.Mesh, fmt.Sprintf("want %+v of worker 1, alive", want), func(ms []mesh.Member) bool {
			m := Find(t, ms, peers[1].Mesh.Self())
			return m.Status == want && m.State == mesh.Alive
		})
	}
	want.Ready, want.Done, want.Round = false, true, 8
	peers[1].Mesh.Announce(want)
	for _, p := range peers {
		Await(t, p.Mesh, fmt.Sprintf("want %+v of worker 1, joining", want), func(ms []mesh.Member) bool {
			m := Find(t, ms, peers[1].Mesh.Self())
			return m.Status == want && m.State == mesh.Joining
		})
	}
}

func changedFires(t *testing.T, start Start) {
	peers := start(t, 2)
	Converge(t, peers, 2)
	for i, s := range []mesh.Status{{Ready: true}, {Ready: true, Done: true}, {Done: true}} {
		_, theirs := peers[0].Mesh.View()
		_, own := peers[1].Mesh.View()
		s.Worker = 1
		peers[1].Mesh.Announce(s)
		wait(t, fmt.Sprintf("change %d at the other", i), theirs)
		wait(t, fmt.Sprintf("change %d at itself", i), own)
	}
}

func wait(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	timer := time.NewTimer(giveUp)
	defer timer.Stop()
	select {
	case <-c:
	case <-timer.C:
		t.Fatalf("%s: nothing after %v", what, giveUp)
	}
}

// serveEcho sends back what arrives until the other side has finished writing.
func serveEcho(m mesh.Mesh) {
	m.Handle(echo, func(_ mesh.ID, s mesh.Stream) {
		defer s.Close()
		if _, err := io.Copy(s, s); err != nil {
			s.Reset()
		}
	})
}

func open(t *testing.T, from mesh.Mesh, to mesh.ID, protocol string) mesh.Stream {
	t.Helper()
	s, err := tryOpen(from, to, protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Reset() })
	return s
}

func tryOpen(from mesh.Mesh, to mesh.ID, protocol string) (mesh.Stream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	s, err := from.Open(ctx, to, protocol)
	if err == nil {
		err = s.SetDeadline(time.Now().Add(giveUp))
	}
	return s, err
}

// roundTrip sends data to an echo and checks what comes back.
func roundTrip(s mesh.Stream, data []byte) error {
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(data)
		sent <- errors.Join(err, s.CloseWrite())
	}()
	back, err := io.ReadAll(s)
	if err := errors.Join(<-sent, err); err != nil {
		return err
	}
	if !bytes.Equal(back, data) {
		return fmt.Errorf("%d bytes sent, %d came back, not the same", len(data), len(back))
	}
	return s.Close()
}

func echoes(t *testing.T, start Start) {
	peers := start(t, 2)
	Converge(t, peers, 2)
	from := make(chan mesh.ID, 1)
	peers[1].Mesh.Handle(echo, func(id mesh.ID, s mesh.Stream) {
		from <- id
		io.Copy(s, s)
		s.Close()
	})
	if err := roundTrip(open(t, peers[0].Mesh, peers[1].Mesh.Self(), echo), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := <-from; got != peers[0].Mesh.Self() {
		t.Errorf("the handler was told %s, want %s", got, peers[0].Mesh.Self())
	}
}

func handlerRemoved(t *testing.T, start Start) {
	peers := start(t, 2)
	Converge(t, peers, 2)
	if s, err := tryOpen(peers[0].Mesh, peers[1].Mesh.Self(), echo); err == nil {
		s.Reset()
		t.Fatal("a protocol without a handler was opened")
	}
	serveEcho(peers[1].Mesh)
	if err := roundTrip(open(t, peers[0].Mesh, peers[1].Mesh.Self(), echo), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	peers[1].Mesh.Handle(echo, nil)
	if s, err := tryOpen(peers[0].Mesh, peers[1].Mesh.Self(), echo); err == nil {
		s.Reset()
		t.Fatal("a removed protocol was opened")
	}
}

func openUnknown(t *testing.T, start Start) {
	peers := start(t, 2)
	Converge(t, peers, 2)
	for _, id := range []mesh.ID{"", "nobody", "12D3KooWGRUVh8pfi6eUoxFxWmmDDFFJDHQvC8KYbZ9j8pPk8xYa"} {
		if s, err := tryOpen(peers[0].Mesh, id, echo); err == nil {
			s.Reset()
			t.Errorf("a stream to %q was opened", id)
		}
	}
}

func openEndsWithContext(t *testing.T, start Start) {
	peers := start(t, 2)
	Converge(t, peers, 2)
	serveEcho(peers[1].Mesh)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if s, err := peers[0].Mesh.Open(ctx, peers[1].Mesh.Self(), echo); err == nil {
		s.Reset()
		t.Error("a stream was opened after its context had ended")
	}
	// The context of Open does not bound the stream it returned.
	ctx, cancel = context.WithCancel(context.Background())
	s, err := peers[0].Mesh.Open(ctx, peers[1].Mesh.Self(), echo)
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	if err := roundTrip(s, []byte("hello")); err != nil {
		t.Errorf("after the context of Open had ended: %v", err)
	}
}

func deadlineRespected(t *testing.T, start Start) {
	peers := start(t, 2)
	Converge(t, peers, 2)
	serveEcho(peers[1].Mesh)
	s := open(t, peers[0].Mesh, peers[1].Mesh.Self(), echo)
	s.SetDeadline(time.Now().Add(20 * time.Millisecond))
	result := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		result <- err
	}()
	timer := time.NewTimer(giveUp)
	defer timer.Stop()
	select {
	case err := <-result:
		var timeout interface{ Timeout() bool }
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("Read past its deadline returned %v, want a timeout", err)
		}
	case <-timer.C:
		t.Error("Read does not return past its deadline")
	}
}

func resetSeen(t *testing.T, start Start) {
	peers := start(t, 2)
	Converge(t, peers, 2)
	result := make(chan error, 1)
	peers[1].Mesh.Handle(echo, func(_ mesh.ID, s mesh.Stream) {
		_, err := io.Copy(io.Discard, s)
		result <- err
		s.Reset()
	})
	s := open(t, peers[0].Mesh, peers[1].Mesh.Self(), echo)
	if _, err := s.Write([]byte("half of a mess")); err != nil {
		t.Fatal(err)
	}
	s.Reset()
	timer := time.NewTimer(giveUp)
	defer timer.Stop()
	select {
	case err := <-result:
		if err == nil {
			t.Error("a reset stream ended as if it were complete")
		}
	case <-timer.C:
		t.Error("the other end did not see the reset")
	}
}

func halfClose(t *testing.T, start Start) {
	peers := start(t, 2)
	Converge(t, peers, 2)
	peers[1].Mesh.Handle(echo, func(_ mesh.ID, s mesh.Stream) {
		defer s.Close()
		question, err := io.ReadAll(s)
		if err != nil {
			s.Reset()
			return
		}
		fmt.Fprintf(s, "%d bytes", len(question))
	})
	s := open(t, peers[0].Mesh, peers[1].Mesh.Self(), echo)
	if _, err := s.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(s)
	if err != nil || string(answer) != "1000 bytes" {
		t.Errorf("after CloseWrite the answer is %q, %v", answer, err)
	}
}

func concurrentStreams(t *testing.T, start Start) {
	const streams = 8
	peers := start(t, 3)
	Converge(t, peers, 3)
	for _, p := range peers {
		serveEcho(p.Mesh)
	}
	var wg sync.WaitGroup
	for i, from := range peers {
		for j, to := range peers {
			for k := range streams {
				if i == j {
					continue
				}
				wg.Go(func() {
					s, err := tryOpen(from.Mesh, to.Mesh.Self(), echo)
					if err != nil {
						t.Error(err)
						return
					}
					defer s.Reset()
					if err := roundTrip(s, pattern(10_000+1000*i+100*j+k, byte(i+3*j+9*k))); err != nil {
						t.Errorf("stream %d from %d to %d: %v", k, i, j, err)
					}
				})
			}
		}
	}
	wg.Wait()
}

// pattern is n bytes that do not repeat every power of two.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7+i/251) ^ seed
	}
	return b
}

func largeTransfer(t *testing.T, start Start) {
	const size = 8 << 20
	peers := start(t, 2)
	Converge(t, peers, 2)
	sums := make(chan [32]byte, 1)
	peers[1].Mesh.Handle(echo, func(_ mesh.ID, s mesh.Stream) {
		h := sha256.New()
		if _, err := io.Copy(h, s); err != nil {
			t.Error(err)
		}
		sums <- [32]byte(h.Sum(nil))
		s.Close()
	})
	s := open(t, peers[0].Mesh, peers[1].Mesh.Self(), echo)
	data := pattern(size, 5)
	if n, err := s.Write(data); err != nil || n != size {
		t.Fatalf("wrote %d of %d bytes: %v", n, size, err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	timer := time.NewTimer(giveUp)
	defer timer.Stop()
	select {
	case got := <-sums:
		if got != sha256.Sum256(data) {
			t.Error("other bytes arrived than were sent")
		}
	case <-timer.C:
		t.Error("the transfer does not end")
	}
}
