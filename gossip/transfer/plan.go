package transfer

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"loco/mesh"
)

// Plan says which chunk of an object is asked of which source. Sources ask for work when
// they have room, so a fast one serves more; what is left at the end is asked of a second
// source, so that a slow source delays nothing.
//
// Invariant: a chunk that is missing is asked of at most two sources, beside those that
// have given a chunk already: two that fall silent hold nothing up. A source has at most
// window chunks asked of it.
type Plan struct {
	window   int
	patience time.Duration

	have    []bool
	asked   []int // sources that a chunk is asked of now
	next    int   // all before are had or were asked once
	back    []int // asked of a source that was dropped, or given back; missing
	missing int
	sources map[mesh.ID]*source
	blame   []string
	given   map[mesh.ID]int // chunks
}

type source struct {
	asked []int // chunks, oldest first
	since time.Time
}

// NewPlan is for an object of so many chunks. A source that has been asked and gives
// nothing for patience is dropped.
func NewPlan(chunks, window int, patience time.Duration) *Plan {
	return &Plan{window: window, patience: patience, have: make([]bool, chunks), asked: make([]int, chunks), missing: chunks,
		sources: map[mesh.ID]*source{}, given: map[mesh.ID]int{}}
}

// Have files a chunk that is there from before.
func (p *Plan) Have(chunk int) {
	if !p.have[chunk] {
		p.have[chunk] = true
		p.missing--
	}
}

// Add adds a source.
func (p *Plan) Add(id mesh.ID) { p.sources[id] = &source{} }

// Missing is the number of chunks that are not there.
func (p *Plan) Missing() int { return p.missing }

// Sources is the number of sources that are not dropped.
func (p *Plan) Sources() int { return len(p.sources) }

// Blame names the sources that were dropped, each with the reason.
func (p *Plan) Blame() []string { return p.blame }

// Next returns the chunk to ask of a source now. Without one ok is false: the source has
// been asked for enough, or nothing is left for it.
func (p *Plan) Next(now time.Time, id mesh.ID) (chunk int, ok bool) {
	s := p.sources[id]
	if s == nil {
		return 0, false
	}
	// So that the last chunks are spread over the sources rather than asked of the first.
	share := (p.missing + len(p.sources) - 1) / len(p.sources)
	if len(s.asked) >= min(p.window, share) {
		return 0, false
	}
	chunk = p.fresh()
	if chunk < 0 {
		if chunk = p.steal(id); chunk < 0 {
			return 0, false
		}
	}
	if len(s.asked) == 0 {
		s.since = now
	}
	s.asked = append(s.asked, chunk)
	p.asked[chunk]++
	return chunk, true
}

// fresh returns a chunk that no source is asked for, or −1.
func (p *Plan) fresh() int {
	for len(p.back) > 0 {
		c := p.back[0]
		p.back = p.back[1:]
		if !p.have[c] && p.asked[c] == 0 {
			return c
		}
	}
	for ; p.next < len(p.have); p.next++ {
		if c := p.next; !p.have[c] && p.asked[c] == 0 {
			p.next++
			return c
		}
	}
	return -1
}

// steal returns the newest chunk that the source with most of them is asked for: it would
// come last. Without one it returns −1.
func (p *Plan) steal(id mesh.ID) int {
	best, most := -1, 0
	for _, other := range slices.Sorted(maps.Keys(p.sources)) {
		s := p.sources[other]
		if other == id || len(s.asked) <= most {
			continue
		}
		for _, c := range slices.Backward(s.asked) {
			if !p.have[c] && (p.asked[c] == 1 || p.given[id] > 0) && !slices.Contains(p.sources[id].asked, c) {
				best, most = c, len(s.asked)
				break
			}
		}
	}
	return best
}

// Arrived files what a source sent for a chunk; good says that it has the right hash. It
// returns whether the chunk is new. A source that sends a wrong chunk, or one that was
// not asked of it, is dropped.
func (p *Plan) Arrived(now time.Time, id mesh.ID, chunk int, good bool) (fresh bool) {
	s := p.sources[id]
	if s == nil {
		return false
	}
	i := slices.Index(s.asked, chunk)
	if i < 0 {
		p.Drop(id, fmt.Sprintf("sent chunk %d, which was not asked of it", chunk))
		return false
	}
	if !good {
		p.Drop(id, fmt.Sprintf("sent chunk %d with a wrong hash", chunk))
		return false
	}
	s.asked = slices.Delete(s.asked, i, i+1)
	s.since = now
	p.asked[chunk]--
	if p.have[chunk] {
		return false
	}
	p.given[id]++
	p.have[chunk] = true
	p.missing--
	return true
}

// Drop takes a source out; its chunks go to the others.
func (p *Plan) Drop(id mesh.ID, why string) {
	s := p.sources[id]
	if s == nil {
		return
	}
	delete(p.sources, id)
	p.blame = append(p.blame, fmt.Sprintf("%s: %s", id, why))
	for _, c := range s.asked {
		p.asked[c]--
		if !p.have[c] && p.asked[c] == 0 {
			p.back = append(p.back, c)
		}
	}
}

// Tick drops the sources that have given nothing for patience and returns them.
func (p *Plan) Tick(now time.Time) (dropped []mesh.ID) {
	for id, s := range p.sources {
		if len(s.asked) > 0 && now.Sub(s.since) >= p.patience {
			dropped = append(dropped, id)
		}
	}
	slices.Sort(dropped)
	for _, id := range dropped {
		p.Drop(id, fmt.Sprintf("gave nothing for %v", p.patience))
	}
	return dropped
}

// Has says that a source is not dropped.
func (p *Plan) Has(id mesh.ID) bool { return p.sources[id] != nil }
