//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"loco/gossip"
	"loco/gossip/codec"
	"loco/gossip/exchange"
	"loco/mesh"
	"loco/mesh/p2p"
	"loco/trainer"
	"loco/worker/config"
	"loco/worker/process"
)

// rogue is a member of a run that does not play by the protocol.
type rogue struct {
	mesh  *p2p.Mesh
	spec  *process.Spec
	peers []mesh.ID
}

// newRogue joins the run of a configuration file as worker 2.
func newRogue(t *testing.T, toml string, addrs []string) *rogue {
	t.Helper()
	cfg, err := config.Load(toml, nil)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := process.NewSpec(&cfg, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	set, err := spec.PrepareData(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := p2p.Default()
	c.Worker, c.Bootstrap = 2, addrs
	c.RunID, c.Canonical = spec.RunID(set), spec.Canonical(set)
	c.Heartbeat = cfg.Mesh.Heartbeat
	m, err := p2p.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	r := &rogue{mesh: m, spec: spec}
	deadline := time.After(e2eDeadline)
	for len(r.peers) < 2 {
		members, changed := m.View()
		r.peers = nil
		for _, p := range members {
			if p.ID != m.Self() && p.State == mesh.Alive {
				r.peers = append(r.peers, p.ID)
			}
		}
		if len(r.peers) < 2 {
			select {
			case <-changed:
			case <-deadline:
				t.Fatalf("the rogue sees %d workers", len(r.peers))
			}
		}
	}
	m.Announce(mesh.Status{Ready: true, Round: 1})
	return r
}

// write sends bytes to every worker's control stream of the all-reduce.
func (r *rogue) write(t *testing.T, what []byte) {
	t.Helper()
	for _, id := range r.peers {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		s, err := r.mesh.Open(ctx, id, "/loco/gossip/control/2/allreduce/3")
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		s.SetDeadline(time.Now().Add(10 * time.Second))
		s.Write(what) // it may be cut off in the middle
		t.Cleanup(func() { s.Reset() })
	}
}

// header is a frame's header with a valid CRC, as gossip's package comment has it.
func header(kind byte, length uint32) []byte {
	h := append([]byte("loco"), 2, kind, 0, 0)
	h = binary.LittleEndian.AppendUint64(h, 1)
	for _, v := range []uint32{0, 0, 0, 0, 2, 0, length, 0} {
		h = binary.LittleEndian.AppendUint32(h, v)
	}
	return binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, crc32.MakeTable(crc32.Castagnoli)))
}

// average takes part in rounds, when it is in time for one, with values that are not
// numbers.
func (r *rogue) average(t *testing.T) {
	t.Helper()
	a, err := gossip.NewAllReduce(gossip.Config{Mesh: r.mesh, Worker: 2, Codec: codec.FP32, Waits: gossip.Waits{Deadline: 10 * time.Second, Grace: time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	nan := bytes.Repeat(binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.NaN()))), r.spec.Parameters())
	go func() {
		for t.Context().Err() == nil {
			if st, err := a.FetchState(t.Context(), exchange.Want{}); err == nil {
				m := st.Past[len(st.Past)-1]
				a.Average(t.Context(), m.Round, exchange.Delta, exchange.Vector{Values: r.spec.Parameters(), Bytes: nan}, 100, exchange.Base{Digest: m.Digest})
			}
		}
	}()
}

// Garbage, oversized frames, values that are not numbers, or nothing at all: the
// sender is named, and the round goes on without it.
func TestE2EBadPeersAreNamedAndLeftOut(t *testing.T) {
	needE2E(t)
	noise := make([]byte, 4096)
	rand.Read(noise)
	for _, c := range []struct {
		name string
		act  func(*testing.T, *rogue)
		log  string // in a worker's log, beside the rogue's ID
	}{
		{"nothing at all", func(*testing.T, *rogue) {}, "said nothing"},
		{"garbage", func(t *testing.T, r *rogue) { r.write(t, noise) }, "magic"},
		{"oversized", func(t *testing.T, r *rogue) { r.write(t, header(1, 1<<31)) }, "at most"},
		{"not a number", func(t *testing.T, r *rogue) { r.average(t) }, "finite"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			sets := small(t, "run.workers=2", "run.rounds=400", "sync.codec=fp32", "sync.grace=1s", "sync.deadline=10s")
			ps, addrs := byHand(t, dir, 2, sets)
			ps[0].event("a round", func(e any) bool { _, ok := e.(*trainer.RoundEvent); return ok })
			r := newRogue(t, ps[0].args[1], addrs)
			c.act(t, r)
			id := string(r.mesh.Self())
			deadline := time.Now().Add(e2eDeadline)
			for !logged(t, dir, id, c.log) {
				if time.Now().After(deadline) {
					t.Fatalf("no worker's log names %s with %q", id, c.log)
				}
				ps[1].event("another round", func(e any) bool { _, ok := e.(*trainer.RoundEvent); return ok })
			}
			r.mesh.Close()
			for _, p := range ps {
				p.event("a round of two after it", func(e any) bool { e2, ok := e.(*trainer.RoundEvent); return ok && e2.Group == 2 })
			}
			a, b := roundsOf(t, dir, 0), roundsOf(t, dir, 1)
			for i := range min(len(a), len(b)) {
				if a[i].Digest != b[i].Digest {
					t.Fatalf("round %d: digests differ", a[i].Round)
				}
			}
		})
	}
}

func logged(t *testing.T, dir, id, text string) bool {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "worker-*", process.LogFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if strings.Contains(line, id) && strings.Contains(line, text) {
				return true
			}
		}
	}
	return false
}
