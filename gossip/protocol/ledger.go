package protocol

import (
	"fmt"
	"slices"
	"time"

	"loco/mesh"
)

// Plan is what a data plane works on.
type Plan struct {
	Round   uint64
	Number  uint64 // of the frames
	Members []GroupMember
	Self    int     // index in Members; −1 when only downloading
	Source  mesh.ID // whose complete result is downloaded; "": reduce
	Length  int     // values
	Total   float64 // the divisor: Σ of the members' weights
}

// Ledger keeps account of the chunks of one attempt: which members have contributed to each chunk of
// the own shard, and which chunks of the result are here. The bytes are the shell's.
//
// Each member owns a shard, sends every other owner that owner's shard of its vector, and
// every other member the chunks of its shard of the mean as they form.
type Ledger struct {
	Plan
	Shards []Span
	values int // of a full chunk

	got      [][]bool // own shard: [chunk][member]
	left     []int    // own shard: contributions that each chunk lacks
	have     [][]bool // [shard][chunk] of the result
	missing  int      // chunks of the result
	progress []time.Time
}

// NewLedger begins an account at now. Shards are cut at multiples of block values, which are the
// codec's, and a full chunk holds values values.
func NewLedger(now time.Time, p Plan, block, values int) *Ledger {
	l := &Ledger{Plan: p, values: values}
	if p.Source != "" {
		l.Shards = []Span{{0, p.Length}}
	} else {
		l.Shards = Shards(p.Length, len(p.Members), block)
		own := l.Chunks(p.Self)
		l.left = make([]int, own)
		for c := range own {
			l.left[c] = len(p.Members)
			l.got = append(l.got, make([]bool, len(p.Members)))
		}
	}
	for s := range l.Shards {
		l.have = append(l.have, make([]bool, l.Chunks(s)))
		l.missing += l.Chunks(s)
	}
	l.progress = slices.Repeat([]time.Time{now}, max(1, len(p.Members)))
	return l
}

// Chunks is the number of chunks of a shard.
func (l *Ledger) Chunks(shard int) int { return l.Shards[shard].Chunks(l.values) }

// Chunk is the values of a chunk of a shard.
func (l *Ledger) Chunk(shard, c int) Span { return l.Shards[shard].Chunk(c, l.values) }

// Share is what member j's values are multiplied by: the weights that are in the mean are
// those of the attempt's members, all of them and no other.
func (l *Ledger) Share(j int) float32 { return float32(l.Members[j].Weight / l.Total) }

// For says that a data frame is of this attempt.
func (l *Ledger) For(h Header) bool {
	return l.Round == h.Round && l.Number == h.Attempt
}

// Take says what to do with a data frame.
type Take struct {
	Use    bool // false: left over from before
	Member int
	Span   Span
}

// Accept looks at a data frame of this attempt. An error says what its sender did wrong.
func (l *Ledger) Accept(now time.Time, from mesh.ID, h Header) (Take, error) {
	member := 0
	if l.Source != "" {
		if from != l.Source || h.Type != TypeResult {
			return Take{}, nil
		}
	} else {
		member = slices.IndexFunc(l.Members, func(g GroupMember) bool { return g.ID == from })
		if member < 0 || uint32(l.Members[member].Worker) != h.Worker {
			return Take{}, fmt.Errorf("data of attempt %d from worker %d, which is not in it", h.Attempt, h.Worker)
		}
	}
	shard := int(h.Shard)
	if shard >= len(l.Shards) || int(h.Chunk) >= len(l.have[shard]) {
		return Take{}, fmt.Errorf("data of shard %d, chunk %d, which do not exist", h.Shard, h.Chunk)
	}
	t := Take{Use: true, Member: member, Span: l.Chunk(shard, int(h.Chunk))}
	if int(h.Count) != t.Span.Hi-t.Span.Lo {
		return Take{}, fmt.Errorf("%d values of shard %d, chunk %d, want %d", h.Count, shard, h.Chunk, t.Span.Hi-t.Span.Lo)
	}
	switch {
	case h.Type == TypeResult && l.Source == "" && shard != member:
		return Take{}, fmt.Errorf("result of shard %d, which belongs to another", shard)
	case h.Type == TypeContribution && shard != l.Self:
		return Take{}, fmt.Errorf("contribution to shard %d, which belongs to another", shard)
	}
	l.progress[member] = now
	return t, nil
}

// Contribute files that member j's values of a chunk of the own shard are here. fresh is
// false where they were already; full says that the chunk can be reduced.
func (l *Ledger) Contribute(j, chunk int) (fresh, full bool) {
	if l.got[chunk][j] {
		return false, false
	}
	l.got[chunk][j] = true
	l.left[chunk]--
	return true, l.left[chunk] == 0
}

// Arrived files that a chunk of the result is here, received or reduced. complete is true
// once, when it was the last.
func (l *Ledger) Arrived(shard, chunk int) (complete bool) {
	if l.have[shard][chunk] {
		return false
	}
	l.have[shard][chunk] = true
	l.missing--
	return l.missing == 0
}

// Has says that a chunk of the result is here.
func (l *Ledger) Has(shard, chunk int) bool { return l.have[shard][chunk] }

// Stalled names a member that has sent nothing for Grace while its share of the own
// shard is missing, or an owner that has for twice as long while its result is: an
// owner may itself be waiting for the former.
func (l *Ledger) Stalled(now time.Time, grace time.Duration) (who mesh.ID, why string) {
	if l.missing == 0 {
		return "", ""
	}
	if l.Source != "" {
		if now.Sub(l.progress[0]) >= grace {
			return l.Source, fmt.Sprintf("silent: sent nothing of its result for %v", grace)
		}
		return "", ""
	}
	for c, got := range l.got {
		for j, ok := range got {
			if l.left[c] > 0 && !ok && j != l.Self && now.Sub(l.progress[j]) >= grace {
				return l.Members[j].ID, fmt.Sprintf("silent: sent nothing of its vector for %v", grace)
			}
		}
	}
	for j, chunks := range l.have {
		if slices.Contains(chunks, false) && j != l.Self && now.Sub(l.progress[j]) >= 2*grace {
			return l.Members[j].ID, fmt.Sprintf("silent: sent nothing of its result for %v", 2*grace)
		}
	}
	return "", ""
}
