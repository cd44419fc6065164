package transfer

import "time"

// Bucket is a token bucket: the rate that all joiners together are given. Callers of Take
// wait in the order of their calls.
//
// Invariant: over any time t at most burst + rate·t bytes are released.
type Bucket struct {
	rate  float64 // bytes a second; 0: no limit
	burst float64 // bytes
	level float64 // may be owed
	last  time.Time
}

// NewBucket returns a full bucket.
func NewBucket(rate int64, burst int) *Bucket {
	return &Bucket{rate: float64(rate), burst: float64(burst), level: float64(burst)}
}

// Take takes n ≤ burst bytes and returns how long to wait before they are sent.
func (b *Bucket) Take(now time.Time, n int) time.Duration {
	if b.rate == 0 {
		return 0
	}
	if now.After(b.last) {
		if !b.last.IsZero() {
			b.level = min(b.burst, b.level+b.rate*now.Sub(b.last).Seconds())
		}
		b.last = now
	}
	b.level -= float64(n)
	if b.level >= 0 {
		return 0
	}
	return time.Duration(-b.level / b.rate * 1e9)
}
