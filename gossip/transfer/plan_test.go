package transfer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"loco/mesh"
)

// supplier is a simulated source: it serves in order, at its own speed, until it dies,
// falls silent or sends a wrong chunk.
type supplier struct {
	id      mesh.ID
	each    time.Duration // for a chunk
	dies    time.Duration // the stream breaks; 0: never
	silent  time.Duration // says nothing from here on; 0: never
	corrupt int           // number of the chunk it sends wrong, from 1; 0: none

	queue []int
	free  time.Duration // when what is asked is served
	sent  int
	gone  bool
}

// event is the arrival of a chunk, or a death.
type event struct {
	at    time.Duration
	from  *supplier
	chunk int // −1: it dies
	good  bool
}

// simulate runs a plan against suppliers in virtual time and returns how long it took,
// or an error when no source is left.
func simulate(t *testing.T, p *Plan, chunks int, suppliers []*supplier, patience time.Duration) (time.Duration, error) {
	t.Helper()
	start := time.Unix(1000, 0)
	var events []event
	had := make([]bool, chunks)
	for _, s := range suppliers {
		p.Add(s.id)
		if s.dies > 0 {
			events = append(events, event{at: s.dies, from: s, chunk: -1})
		}
	}
	now := time.Duration(0)
	for step := 0; p.Missing() > 0; step++ {
		p.Tick(start.Add(now))
		if step > 100*chunks+10_000 {
			return now, fmt.Errorf("no progress, %d missing", p.Missing())
		}
		for _, s := range suppliers {
			for !s.gone && p.Has(s.id) {
				chunk, ok := p.Next(start.Add(now), s.id)
				if !ok {
					break
				}
				if slices.Contains(s.queue, chunk) || len(s.queue) == 8 {
					t.Fatalf("%s is asked for chunk %d beside %v", s.id, chunk, s.queue)
				}
				s.queue = append(s.queue, chunk)
				s.free = max(s.free, now) + s.each
				if s.silent == 0 || s.free < s.silent {
					s.sent++
					events = append(events, event{s.free, s, chunk, s.sent != s.corrupt})
				}
			}
		}
		if p.Sources() == 0 {
			return now, fmt.Errorf("no source is left: %q", p.Blame())
		}
		next := now + patience/4
		slices.SortStableFunc(events, func(a, b event) int { return int(a.at - b.at) })
		if len(events) > 0 && events[0].at <= next {
			e := events[0]
			events = events[1:]
			now = e.at
			switch {
			case e.from.gone:
			case e.chunk < 0:
				e.from.gone = true
				p.Drop(e.from.id, "lost")
			default:
				e.from.queue = slices.DeleteFunc(e.from.queue, func(c int) bool { return c == e.chunk })
				if p.Arrived(start.Add(now), e.from.id, e.chunk, e.good) {
					if had[e.chunk] || !e.good {
						t.Fatalf("chunk %d is taken twice, or wrong (good: %v)", e.chunk, e.good)
					}
					had[e.chunk] = true
				}
			}
			continue
		}
		now = next
	}
	if slices.Contains(had, false) {
		t.Fatal("done, and a chunk is missing")
	}
	return now, nil
}

const patience = 10 * time.Second

func TestFastSourcesServeMore(t *testing.T) {
	p := NewPlan(300, 8, patience)
	took, err := simulate(t, p, 300, []*supplier{{id: "slow", each: 400 * time.Millisecond}, {id: "mid", each: 200 * time.Millisecond}, {id: "fast", each: 100 * time.Millisecond}}, patience)
	if err != nil {
		t.Fatal(err)
	}
	// 17.5 chunks a second together: 17.1 s, and the tail.
	if slow, mid, fast := p.given["slow"], p.given["mid"], p.given["fast"]; took > 18*time.Second || fast < 3*slow || fast < mid*3/2 {
		t.Errorf("%v: slow gave %d, mid %d, fast %d", took, slow, mid, fast)
	}
}

func TestFewChunksAreSpread(t *testing.T) {
	p := NewPlan(6, 8, patience)
	took, err := simulate(t, p, 6, []*supplier{{id: "a", each: time.Second}, {id: "b", each: time.Second}, {id: "c", each: time.Second}}, patience)
	if err != nil || took != 2*time.Second {
		t.Errorf("%v, %v: want 2 s", took, err)
	}
}

func TestASlowSourceKeepsNobodyWaiting(t *testing.T) {
	p := NewPlan(40, 8, patience)
	took, err := simulate(t, p, 40, []*supplier{{id: "crawls", each: 9 * time.Second}, {id: "good", each: 100 * time.Millisecond}}, patience)
	if err != nil || took > 5*time.Second {
		t.Errorf("%v, %v", took, err)
	}
}

func TestLostSilentAndWrongSourcesAreDroppedAndNamed(t *testing.T) {
	p := NewPlan(300, 8, patience)
	_, err := simulate(t, p, 300, []*supplier{
		{id: "dies", each: 50 * time.Millisecond, dies: time.Second}, {id: "silent", each: 50 * time.Millisecond, silent: time.Second},
		{id: "wrong", each: 50 * time.Millisecond, corrupt: 5}, {id: "good", each: 300 * time.Millisecond}}, patience)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(p.Blame(), "\n")
	for _, want := range []string{"dies: lost", "silent: gave nothing for 10s", "wrong: sent chunk"} {
		if !strings.Contains(all, want) {
			t.Errorf("blamed %q, want %q", p.Blame(), want)
		}
	}
	if strings.Contains(all, "good") {
		t.Errorf("blamed %q", p.Blame())
	}
}

func TestWhatWasNotAskedIsBlamed(t *testing.T) {
	p := NewPlan(4, 8, patience)
	p.Add("a")
	now := time.Unix(1, 0)
	if p.Arrived(now, "a", 2, true) || p.Has("a") || p.Missing() != 4 {
		t.Errorf("took a chunk that was not asked for; blame %q", p.Blame())
	}
	p.Have(1)
	p.Have(1)
	if p.Missing() != 3 {
		t.Errorf("%d missing", p.Missing())
	}
}

// Random suppliers with deaths, silence and corruption: while one honest source is left
// every chunk comes once, and only sources at fault are named.
func TestRandomSuppliers(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 5))
		chunks := 1 + r.IntN(200)
		p := NewPlan(chunks, 1+r.IntN(8), patience)
		for c := range chunks {
			if r.IntN(4) == 0 {
				p.Have(c)
			}
		}
		suppliers := []*supplier{{id: "honest", each: time.Duration(1+r.IntN(2000)) * time.Millisecond}}
		for i := range r.IntN(5) {
			s := &supplier{id: mesh.ID(fmt.Sprint("s", i)), each: time.Duration(1+r.IntN(3000)) * time.Millisecond}
			switch r.IntN(5) {
			case 0:
				s.dies = time.Duration(1+r.IntN(20_000)) * time.Millisecond
			case 1:
				s.silent = time.Duration(1+r.IntN(20_000)) * time.Millisecond
			case 2:
				s.corrupt = 1 + r.IntN(30)
			}
			suppliers = append(suppliers, s)
		}
		left := p.Missing()
		took, err := simulateFrom(t, p, chunks, suppliers)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if limit := time.Duration(left+1) * suppliers[0].each; took > limit {
			t.Fatalf("seed %d: %v for %d chunks, the honest source alone takes %v", seed, took, left, limit)
		}
		for _, b := range p.Blame() {
			id, _, _ := strings.Cut(b, ":")
			for _, s := range suppliers {
				if string(s.id) == id && s.dies == 0 && s.silent == 0 && s.corrupt == 0 {
					t.Fatalf("seed %d: %q is blamed and did nothing wrong", seed, b)
				}
			}
		}
	}
}

// simulateFrom is simulate where some chunks are there already.
func simulateFrom(t *testing.T, p *Plan, chunks int, suppliers []*supplier) (time.Duration, error) {
	t.Helper()
	missing := p.Missing()
	if missing == chunks {
		return simulate(t, p, chunks, suppliers, patience)
	}
	// The chunks that are there are not asked for: the same plan over those that are not.
	q := NewPlan(missing, p.window, patience)
	took, err := simulate(t, q, missing, suppliers, patience)
	*p = *q
	return took, err
}

func TestBucketHoldsTheRate(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 6))
		rate, burst := int64(1000+r.IntN(1_000_000)), 16<<10
		b := NewBucket(rate, burst)
		start := time.Unix(50, 0)
		now, last, sent := start, start, 0
		for range 300 {
			if r.IntN(3) == 0 {
				now = now.Add(time.Duration(r.IntN(100)) * time.Millisecond)
			}
			n := 1 + r.IntN(burst)
			at := now.Add(b.Take(now, n))
			if at.Before(last) {
				t.Fatalf("seed %d: released out of turn", seed)
			}
			last, sent = at, sent+n
			if limit := float64(burst) + float64(rate)*at.Sub(start).Seconds() + 1; float64(sent) > limit {
				t.Fatalf("seed %d: %d bytes after %v at %d a second", seed, sent, at.Sub(start), rate)
			}
		}
		if floor := float64(sent-burst)/float64(rate) - 1e-3; last.Sub(start).Seconds() > max(floor, now.Sub(start).Seconds())+1 {
			t.Fatalf("seed %d: %d bytes took %v at %d a second", seed, sent, last.Sub(start), rate)
		}
	}
	if b := NewBucket(0, 1); b.Take(time.Unix(1, 0), 1<<30) != 0 {
		t.Error("a bucket without a rate waits")
	}
}
