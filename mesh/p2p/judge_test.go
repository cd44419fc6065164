package p2p

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"loco/mesh"
	"loco/mesh/swim"
)

// claim is a hello of a process with a number.
func claim(worker int, settled bool) Hello {
	return Hello{Version: protocolVersion, Settled: settled, RunID: testRun,
		Heartbeat: Heartbeat{Status: mesh.Status{Worker: worker}, Incarnation: swim.Incarnation{Life: 1}}}
}

// A number that is promised in one hello is not given in another, until the first is over.
func TestReservations(t *testing.T) {
	c := testConfig(t)
	c.HelloTimeout = time.Hour
	m := mustNew(t, c)
	check := func(what string, from mesh.ID, want Verdict) {
		t.Helper()
		if got := m.judge(from, claim(5, false)); got != want {
			t.Errorf("%s: verdict %+v, want %+v", what, got, want)
		}
	}
	check("a free number", "x", Verdict{})
	check("promised to another", "y", Verdict{Code: verdictWorkerTaken, Worker: 5, By: "x"})
	check("promised to itself", "x", Verdict{})
	m.release(5, "y")
	check("released by another", "y", Verdict{Code: verdictWorkerTaken, Worker: 5, By: "x"})
	m.release(5, "x")
	check("released", "y", Verdict{})
	m.mu.Lock()
	if r := m.reserved[5]; r.until < m.now()+59*time.Minute || r.until > m.now()+time.Hour {
		t.Errorf("the promise ends %v from now, want an hour", r.until-m.now())
	}
	m.reserved[5] = reservation{by: "y", until: m.now()}
	m.mu.Unlock()
	check("promised until now", "x", Verdict{})
	if got := m.judge("z", claim(6, false)); got.Code != verdictAccepted {
		t.Errorf("another number: verdict %+v", got)
	}
}

// Of two that join with one number the smaller ID has it; one that has joined keeps its own.
func TestJudgeOfOneNumber(t *testing.T) {
	for _, c := range []struct {
		what           string
		ours, theirs   bool // settled
		from           mesh.ID
		taken          bool
		outbid, decide bool
	}{
		{what: "two that join, they are smaller", from: "1", outbid: true},
		{what: "two that join, they are larger", from: "z", taken: true, decide: true},
		{what: "this has joined", ours: true, from: "1", taken: true},
		{what: "they have joined elsewhere", theirs: true, from: "1", taken: true},
		{what: "both have", ours: true, theirs: true, from: "1", taken: true},
		{what: "both have, they are larger", ours: true, theirs: true, from: "z", taken: true},
	} {
		m := mustNew(t, testConfig(t))
		m.mu.Lock()
		m.settled = c.ours
		m.mu.Unlock()
		want := Verdict{}
		if c.taken {
			want = Verdict{Code: verdictWorkerTaken, Worker: m.cfg.Worker, By: m.id}
		}
		if got := m.judge(c.from, claim(m.cfg.Worker, c.theirs)); got != want {
			t.Errorf("%s: verdict %+v, want %+v", c.what, got, want)
		}
		if c.outbid != (m.outbid != nil) || c.outbid && (m.outbid.Worker != m.cfg.Worker || m.outbid.By != c.from) {
			t.Errorf("%s: outbid by %+v", c.what, m.outbid)
		}
		select {
		case <-m.won:
			if !c.decide {
				t.Errorf("%s: this worker takes itself for the one that keeps the number", c.what)
			}
		default:
			if c.decide {
				t.Errorf("%s: this worker does not note that it keeps the number", c.what)
			}
		}
	}
}

func TestJudgeOfOthers(t *testing.T) {
	a, b := pair(t, func(*Config) {})
	if got, want := a.judge("x", claim(b.cfg.Worker, false)), (Verdict{Code: verdictWorkerTaken, Worker: b.cfg.Worker, By: b.id}); got != want {
		t.Errorf("the number of a third: verdict %+v, want %+v", got, want)
	}
	if got := a.judge(b.id, claim(b.cfg.Worker, true)); got.Code != verdictAccepted {
		t.Errorf("its own number again: verdict %+v", got)
	}
	if got := a.judge(a.id, claim(9, true)); got.Code != verdictRefused || !strings.Contains(got.Reason, "own identity") {
		t.Errorf("this worker's own identity: verdict %+v", got)
	}
}

// A peer of another version learns which this one speaks, and is refused by name.
func TestAnotherVersion(t *testing.T) {
	log := newLogBuffer()
	config := testConfig(t)
	config.Logger = slog.New(slog.NewTextHandler(log, nil))
	m := mustNew(t, config)
	h := stranger(t, m)
	id, _ := peer.Decode(string(m.Self()))
	s, err := h.NewStream(t.Context(), id, helloProtocol)
	if err != nil {
		t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(10 * time.Second))
	if err := writeFrame(s, frameHello, []byte("loco\x02\x00 and what version 2 says")); err != nil {
		t.Fatal(err)
	}
	raw, err := readFrame(s, frameHello, maxHelloBytes)
	if err != nil {
		t.Fatal(err)
	}
	if got := binary.LittleEndian.Uint16(raw[len(helloMagic):]); got != protocolVersion {
		t.Errorf("the answer is of version %d, want %d", got, protocolVersion)
	}
	log.await(t, "peer refused", h.ID().String(), fmt.Sprintf("speaks version 2 of loco's protocols, this worker %d", protocolVersion))
	s.Close() // it has read the answer
	awaitDisconnect(t, h, id)
}

// listener is a libp2p host that answers hellos as say does, and its address.
func listener(t *testing.T, say func(s network.Stream)) string {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableMetrics(), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	h.SetStreamHandler(helloProtocol, say)
	return fmt.Sprintf("%s/p2p/%s", h.Addrs()[0], h.ID())
}

// A listener that breaks the rules of a hello keeps nobody for longer than the time for
// one, and the error says what it did.
func TestHelloOfBadListeners(t *testing.T) {
	answer := func(verdict func(s network.Stream)) func(network.Stream) {
		return func(s network.Stream) {
			defer s.Close()
			if _, err := readFrame(s, frameHello, maxHelloBytes); err != nil {
				return
			}
			if writeFrame(s, frameHello, AppendHello(nil, claim(1000, true))) == nil {
				verdict(s)
			}
		}
	}
	const soon, late = 100 * time.Millisecond, time.Hour
	for _, c := range []struct {
		name  string
		time  time.Duration // for a hello
		say   func(s network.Stream)
		want  string
		fatal bool
	}{
		{"says nothing", soon, func(s network.Stream) { io.Copy(io.Discard, s) }, "p2p: hello to 12D3", false},
		{"says garbage", late, func(s network.Stream) { s.Write(make([]byte, 100)); s.Close() }, "not a hello", false},
		{"says nothing of the number", soon, answer(func(s network.Stream) { io.Copy(io.Discard, s) }), "p2p: hello to 12D3", false},
		{"says garbage of the number", late, answer(func(s network.Stream) { writeFrame(s, frameVerdict, []byte{99, 0, 0, 0, 0, 0, 0, 0}) }), "code: 99", false},
		{"refuses", late, answer(func(s network.Stream) {
			writeFrame(s, frameVerdict, AppendVerdict(nil, Verdict{Code: verdictRefused, Reason: "it is full"}))
		}), "it is full", true},
		{"another has the number", late, answer(func(s network.Stream) {
			writeFrame(s, frameVerdict, AppendVerdict(nil, Verdict{Code: verdictWorkerTaken, Worker: 7, By: "somebody"}))
		}), "worker number 7 is taken by live member somebody", true},
		{"speaks another version", late, func(s network.Stream) {
			readFrame(s, frameHello, maxHelloBytes)
			writeFrame(s, frameHello, []byte("loco\x09\x00"))
		}, "speaks version 9", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := testConfig(t)
			config.HelloTimeout = c.time
			m := mustNew(t, config)
			info, err := peer.AddrInfoFromString(listener(t, c.say))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.connect(t.Context(), *info); err != nil {
				t.Fatal(err)
			}
			err = m.greet(t.Context(), info.ID)
			if err == nil || !strings.Contains(err.Error(), c.want) || isFatal(err) != c.fatal {
				t.Errorf("error %v, want %q in it, final: %v", err, c.want, c.fatal)
			}
			if members, _ := m.View(); len(members) != 1 {
				t.Errorf("the listener is in the view: %+v", members)
			}
		})
	}
}

func TestIsFatal(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false}, {io.EOF, false}, {ErrClosed, false},
		{fmt.Errorf("a: %w", errRefused), true}, {fmt.Errorf("a: %w", &ConfigError{}), true}, {fmt.Errorf("a: %w", &WorkerTakenError{}), true},
	} {
		if got := isFatal(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

// Streams to this worker itself, and to no member, are refused with the reason.
func TestOpenable(t *testing.T) {
	m := mustNew(t, testConfig(t))
	for id, want := range map[mesh.ID]string{m.Self(): "the worker itself", "x": "not a member"} {
		if _, err := m.openable(id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q in it", id, err, want)
		}
	}
	m.Close()
	if _, err := m.openable("x"); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
