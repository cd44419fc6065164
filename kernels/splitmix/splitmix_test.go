package splitmix

import (
	"fmt"
	"math"
	"testing"
)

// The numbers that Vigna's splitmix64.c (prng.di.unimi.it) gives for the seed 1234567, as
// published at rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64.
func TestPublishedNumbers(t *testing.T) {
	s := Source(1234567)
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821} {
		if got := s.Next(); got != want {
			t.Errorf("number %d is %d, want %d", i, got, want)
		}
	}
}

// The counts that the same page gives: 100,000 numbers of the seed 987654321, as digits.
func TestPublishedDigits(t *testing.T) {
	s := Source(987654321)
	var counts [5]int
	for range 100_000 {
		counts[int(s.Uniform()*5)]++
	}
	if want := [5]int{20027, 19892, 20073, 19978, 20030}; counts != want {
		t.Errorf("counts %v, want %v", counts, want)
	}
}

func TestUniformIsBelowOne(t *testing.T) {
	highest := Source(0)
	if got := float64(uint64(math.MaxUint64)>>11) / (1 << 53); got >= 1 {
		t.Errorf("the highest is %v", got)
	}
	if got := highest.Uniform(); got != float64(0xe220a8397b1dcdaf>>11)/(1<<53) {
		t.Errorf("the first of seed 0 is %v", got)
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct{ random, n, want uint64 }{
		{0, 10, 0}, {math.MaxUint64, 10, 9}, {1 << 63, 10, 5}, {1<<63 - 1, 10, 4}, {math.MaxUint64, 1, 0}, {5, math.MaxUint64, 4}, {7, 0, 0},
	} {
		if got := Below(c.random, c.n); got != c.want {
			t.Errorf("%d below %d is %d, want %d", c.random, c.n, got, c.want)
		}
	}
}

func Example() {
	s := Source(42)
	for range 3 {
		fmt.Println(Below(s.Next(), 6) + 1)
	}
	// Output:
	// 5
	// 1
	// 2
}
