package netem

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"
)

// ip is a packet for a node, of a size in bytes and with a number in it.
func ip(to, size int, number uint32) []byte {
	p := make([]byte, size)
	p[0] = 0x45
	copy(p[16:20], Addr(to).AsSlice())
	binary.BigEndian.PutUint32(p[20:], number)
	return p
}

func newSwitch(t *testing.T, nodes int, c Conditions, seed uint64) *Switch {
	t.Helper()
	s, err := NewSwitch(nodes, c, seed)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// drain takes everything that arrives, and says when and where.
func drain(s *Switch) (out []string) {
	for at, ok := s.Next(); ok; at, ok = s.Next() {
		if to, p, ok := s.Due(at); ok {
			out = append(out, fmt.Sprintf("%v to %d: %d", at, to, binary.BigEndian.Uint32(p[20:])))
		}
	}
	return out
}

func TestDelayAndRate(t *testing.T) {
	// 1,250 bytes are 10 kbit, so 10 ms at 1 Mbit/s.
	s := newSwitch(t, 3, Conditions{Delay: 40 * time.Millisecond, Rate: 1e6, Queue: 15 * time.Millisecond}, 1)
	for k := range 4 {
		s.Accept(0, k%2, ip(2, 1250, uint32(k)))
	}
	s.Accept(5*time.Millisecond, 2, ip(0, 1250, 9))
	if _, _, ok := s.Due(50*time.Millisecond - 1); ok {
		t.Error("a packet is early")
	}
	want := []string{"50ms to 2: 0", "55ms to 0: 9", "60ms to 2: 1"}
	if got := drain(s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := s.Stats(), (Stats{Delivered: 3, Overflowed: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestJitterKeepsTheOrderAndHasItsMean(t *testing.T) {
	const n, delay, jitter = 20000, 40 * time.Millisecond, 8 * time.Millisecond
	s := newSwitch(t, 2, Conditions{Delay: delay, Jitter: jitter}, 7)
	var sum time.Duration
	for k := range n { // far enough apart that the order holds nobody up
		sent := time.Duration(k) * time.Second
		s.Accept(sent, 0, ip(1, 24, uint32(k)))
		at, _ := s.Next()
		sum += at - sent
		s.Due(at)
	}
	if mean := sum / n; mean < delay+jitter*95/100 || mean > delay+jitter*105/100 {
		t.Errorf("mean delay %v, want %v", mean, delay+jitter)
	}
	for k := range uint32(1000) {
		s.Accept(n*time.Second, 0, ip(1, 24, k))
	}
	for k := range uint32(1000) {
		if _, p, ok := s.Due(math.MaxInt64); !ok || binary.BigEndian.Uint32(p[20:]) != k {
			t.Fatalf("packet %d is not the next", k)
		}
	}
}

func TestLossHasItsShare(t *testing.T) {
	const n = 100000
	s := newSwitch(t, 2, Conditions{Loss: 0.005}, 3)
	for k := range uint32(n) {
		s.Accept(0, 0, ip(1, 24, k))
		s.Due(0)
	}
	// The standard deviation is 22.
	if got := s.Stats(); got.Lost < 400 || got.Lost > 600 || got.Lost+got.Delivered != n {
		t.Errorf("%+v of %d, want 500 lost", got, n)
	}
}

func TestCutHasADirection(t *testing.T) {
	s := newSwitch(t, 2, Conditions{Delay: time.Millisecond}, 1)
	s.Accept(0, 0, ip(1, 24, 1)) // under way when the cut comes
	s.Cut(0, 1, true)
	s.Accept(0, 0, ip(1, 24, 2))
	s.Accept(0, 1, ip(0, 24, 3))
	if got := drain(s); fmt.Sprint(got) != "[1ms to 0: 3]" {
		t.Errorf("through the cut came %v", got)
	}
	s.Cut(0, 1, false)
	s.Accept(time.Second, 0, ip(1, 24, 4))
	if got := drain(s); fmt.Sprint(got) != "[1.001s to 1: 4]" {
		t.Errorf("after the cut came %v", got)
	}
	if got, want := s.Stats(), (Stats{Delivered: 2, Cut: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestSameSeedSameTimes(t *testing.T) {
	run := func(seed uint64) string {
		s := newSwitch(t, 5, Conditions{Delay: 40 * time.Millisecond, Jitter: 9 * time.Millisecond, Loss: 0.1, Rate: 1e8, Queue: time.Second}, seed)
		for k := range 500 {
			s.Accept(time.Duration(k)*time.Microsecond, k%5, ip((k+1+k%4)%5, 24+k, uint32(k)))
		}
		return fmt.Sprint(drain(s))
	}
	first := run(1)
	if run(1) != first {
		t.Error("two runs with one seed differ")
	}
	if run(2) == first {
		t.Error("two seeds give the same run")
	}
}

func TestWhatIsNoPacketOfTheBedGoesNowhere(t *testing.T) {
	s := newSwitch(t, 3, Conditions{}, 1)
	v6 := ip(1, 40, 0)
	v6[0] = 0x60
	other := ip(1, 40, 0)
	other[16] = 11
	broadcast := ip(1, 40, 0)
	broadcast[19] = 255
	for _, p := range [][]byte{nil, {0x45}, v6, other, broadcast, ip(3, 40, 0)} {
		s.Accept(0, 0, p)
	}
	if got := s.Stats(); got != (Stats{Foreign: 6}) {
		t.Errorf("%+v, want all 6 foreign", got)
	}
}

func TestTheSwitchIsBounded(t *testing.T) {
	s := newSwitch(t, 2, Conditions{Delay: time.Hour}, 1)
	p := ip(1, 24, 0)
	for range waitingMax + 10 {
		s.Accept(0, 0, p)
	}
	if got := s.Stats().Overflowed; got != 10 {
		t.Errorf("%d packets were refused, want 10", got)
	}
}

func TestBadConditionsAreNamed(t *testing.T) {
	for _, c := range []Conditions{{Delay: -1}, {Loss: 1.1}, {Loss: math.NaN()}, {Rate: -1}} {
		if _, err := NewSwitch(2, c, 1); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
	for _, n := range []int{0, NodesMax + 1} {
		if _, err := NewSwitch(n, Conditions{}, 1); err == nil {
			t.Errorf("%d nodes are accepted", n)
		}
	}
}

func FuzzDestination(f *testing.F) {
	f.Add(ip(2, 24, 1), uint8(3))
	f.Add([]byte{0x45}, uint8(1))
	f.Fuzz(func(t *testing.T, p []byte, nodes uint8) {
		node, ok := destination(p, int(nodes))
		if ok && (node < 0 || node >= int(nodes) || !bytes.Equal(p[16:20], Addr(node).AsSlice())) {
			t.Fatalf("node %d of %d for %x", node, nodes, p)
		}
	})
}
