package data

import "loco/kernels/splitmix"

// hash combines numbers into one.
func hash(numbers ...uint64) uint64 {
	h := uint64(0)
	for _, n := range numbers {
		h = splitmix.Mix(h ^ splitmix.Mix(n+splitmix.Gamma))
	}
	return h
}

// permutation is a pseudo-random bijection of [0, n) that needs no table: a
// balanced Feistel network over the next power of four, walked along its cycle
// until it is below n (Black & Rogaway, "Ciphers with arbitrary finite domains",
// 2002, section 5). Fewer than four steps are taken on average.
type permutation struct {
	n    uint64
	half uint   // bits of one half
	key  uint64 // of the rounds
}

// feistelRounds is one more than the four that make a Feistel network of random
// functions indistinguishable from a random permutation (Luby & Rackoff), rounded
// up to an even number.
const feistelRounds = 6

func newPermutation(n, key uint64) permutation {
	half := uint(1)
	for half < 32 && uint64(1)<<(2*half) < n {
		half++
	}
	return permutation{n: n, half: half, key: key}
}

// at returns where i goes, for i < n ≤ 2^63.
func (p permutation) at(i uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	for {
		left, right := i>>p.half, i&mask
		for round := range uint64(feistelRounds) {
			left, right = right, left^splitmix.Mix(p.key+round*splitmix.Gamma^splitmix.Mix(right))&mask
		}
		i = left<<p.half | right
		if i < p.n {
			return i
		}
	}
}
