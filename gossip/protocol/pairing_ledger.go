package protocol

import (
	"fmt"
	"time"
)

// PairLedger keeps account of the chunks of one exchange of a pair: which of the
// partner's are here, and how many of the own are still to be sent. The bytes are the
// shell's.
type PairLedger struct {
	Exchange
	worker   int
	all      Span
	values   int // of a full chunk
	have     []bool
	missing  int // the partner's
	unsent   int
	progress time.Time // of the partner
}

// Half is one side of a mean.
type Half struct {
	Own   bool
	Share float32 // its weight over the sum of both
}

// NewPairLedger begins an account at now: of length values in chunks of values.
func NewPairLedger(now time.Time, x Exchange, worker, length, values int) *PairLedger {
	l := &PairLedger{Exchange: x, worker: worker, all: Span{Hi: length}, values: values, progress: now}
	l.have = make([]bool, l.all.Chunks(values))
	l.missing, l.unsent = len(l.have), len(l.have)
	return l
}

// Chunks is the number of chunks of either vector.
func (l *PairLedger) Chunks() int { return len(l.have) }

// Chunk is the values of a chunk.
func (l *PairLedger) Chunk(c int) Span { return l.all.Chunk(c, l.values) }

// Accept looks at a data frame of this exchange. fresh is false where its chunk is here
// already; an error says what its sender did wrong.
func (l *PairLedger) Accept(now time.Time, h Header) (fresh bool, err error) {
	switch {
	case int(h.Chunk) >= len(l.have) || h.Shard != 0:
		return false, fmt.Errorf("data of shard %d, chunk %d, which do not exist", h.Shard, h.Chunk)
	case h.Round != l.PeerRound || int(h.Worker) != l.PeerWorker:
		return false, fmt.Errorf("data of worker %d, round %d in an exchange with worker %d, round %d", h.Worker, h.Round, l.PeerWorker, l.PeerRound)
	}
	if s := l.Chunk(int(h.Chunk)); int(h.Count) != s.Hi-s.Lo {
		return false, fmt.Errorf("%d values of chunk %d, want %d", h.Count, h.Chunk, s.Hi-s.Lo)
	}
	l.progress = now
	return !l.have[h.Chunk], nil
}

// Arrived files that a chunk of the partner's is here. complete is true once, when
// nothing of the exchange is missing any more.
func (l *PairLedger) Arrived(chunk int) (complete bool) {
	if l.have[chunk] {
		return false
	}
	l.have[chunk] = true
	l.missing--
	return l.complete()
}

// Sent files that one more of the own chunks was written.
func (l *PairLedger) Sent() (complete bool) {
	l.unsent--
	return l.complete()
}

func (l *PairLedger) complete() bool {
	return l.missing == 0 && l.unsent == 0
}

// Stalled says that the partner has sent nothing for grace, and something of its is missing.
// What is left of the own vector is no matter of the partner's: a partner that takes nothing of it is
// noticed by the writer, and a slow line of this worker's is nobody else's fault.
func (l *PairLedger) Stalled(now time.Time, grace time.Duration) bool {
	return l.missing > 0 && now.Sub(l.progress) >= grace
}

// Halves is the mean's formula, the lower worker first:
//
//	float32(w₁/(w₁+w₂))·x₁ + float32(w₂/(w₁+w₂))·x₂
func (l *PairLedger) Halves() [2]Half {
	own, other := Half{true, float32(l.Own / (l.Own + l.Other))}, Half{false, float32(l.Other / (l.Own + l.Other))}
	if l.worker > l.PeerWorker {
		return [2]Half{other, own}
	}
	return [2]Half{own, other}
}
