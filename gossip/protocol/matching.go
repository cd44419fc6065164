package protocol

import (
	"math/bits"
	"slices"
)

// Match returns the partner of worker self in a round, and false for the odd one out
// or a worker that is not among workers. It is a function of seed, round and the set
// of workers alone: the workers, ascending, are permuted by Fisher and Yates with
// splitmix64 (Steele et al., OOPSLA 2014), and perm[k] is paired with perm[k+⌊n/2⌋]
// (NoLoCo, arXiv 2506.10911, section 3: a random matching at every outer step).
func Match(seed, round uint64, workers []int, self int) (partner int, ok bool) {
	perm := slices.Clone(workers)
	slices.Sort(perm)
	perm = slices.Compact(perm)
	random := splitmix{state: seed}
	random.state = random.next() ^ round
	for i := len(perm) - 1; i > 0; i-- {
		// The high word of a 128-bit product is uniform in [0, i] up to 2⁻⁵⁰.
		j, _ := bits.Mul64(random.next(), uint64(i+1))
		perm[i], perm[j] = perm[j], perm[i]
	}
	half := len(perm) / 2
	at := slices.Index(perm, self)
	switch {
	case at < 0 || at >= 2*half:
		return 0, false
	case at < half:
		return perm[at+half], true
	}
	return perm[at-half], true
}

// splitmix is the generator splitmix64.
type splitmix struct{ state uint64 }

func (s *splitmix) next() uint64 {
	s.state += 0x9e3779b97f4a7c15
	z := s.state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
