package trainer

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Mark is a state that a worker was in at a round's boundary.
type Mark struct {
	Round  uint64
	Digest [32]byte
	Tokens uint64 // of the worker in that state; not shared

	steps uint64 // as Tokens
}

const (
	marksMax   = 256 // that are remembered
	markBytes  = 8 + 32
	lineageLen = 8 + 8 // bytes before the marks
)

// mark remembers the state at hand.
func (t *Trainer) mark() {
	mine := t.contributed()
	t.past = append(t.past, Mark{t.round, t.stateDigest, mine.tokens, mine.steps})
	if len(t.past) > marksMax {
		t.past = append(t.past[:0], t.past[len(t.past)-marksMax:]...)
	}
}

// fork returns the newest state that both this worker and the owner of past were in, or
// the oldest that this worker remembers.
func (t *Trainer) fork(past []Mark) Mark {
	theirs := map[[32]byte]bool{}
	for _, m := range past {
		theirs[m.Digest] = true
	}
	for i := len(t.past) - 1; i >= 0; i-- {
		if theirs[t.past[i].Digest] {
			return t.past[i]
		}
	}
	return t.past[0]
}

// AppendLineage appends what a joiner must know of the state's past: the tokens that all
// workers trained to get to it (binary64), the nanoseconds since the last round (8 bytes),
// then for each mark its round (8 bytes) and its digest, oldest first; all little-endian.
func (s *Snapshot) AppendLineage(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(s.RunTokens))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(s.RoundTime))
	for _, m := range s.Past {
		dst = binary.LittleEndian.AppendUint64(dst, m.Round)
		dst = append(dst, m.Digest[:]...)
	}
	return dst
}

// ParseLineage reads what AppendLineage wrote into s.
func (s *Snapshot) ParseLineage(p []byte) error {
	if len(p) < lineageLen || (len(p)-lineageLen)%markBytes != 0 || len(p) > lineageLen+marksMax*markBytes {
		return fmt.Errorf("lineage of %d bytes, want %d and %d for each of at most %d rounds", len(p), lineageLen, markBytes, marksMax)
	}
	tokens := math.Float64frombits(binary.LittleEndian.Uint64(p))
	if !(tokens >= 0) || math.IsInf(tokens, 0) {
		return fmt.Errorf("lineage of %v tokens, want a finite number that is not negative", tokens)
	}
	since := binary.LittleEndian.Uint64(p[8:])
	if since > math.MaxInt64 {
		return fmt.Errorf("lineage of a round that began %d ns ago, at most %d are allowed", since, int64(math.MaxInt64))
	}
	s.RunTokens, s.RoundTime, s.Past = tokens, time.Duration(since), nil
	for p = p[lineageLen:]; len(p) > 0; p = p[markBytes:] {
		s.Past = append(s.Past, Mark{Round: binary.LittleEndian.Uint64(p), Digest: [32]byte(p[8:markBytes])})
	}
	return nil
}
