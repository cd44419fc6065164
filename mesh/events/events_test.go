package events

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Events come in the order of their times, those of one time in the order in which they were pushed.
func TestOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var q Queue
	var want, got [][2]int
	for i := range 1000 {
		at := r.IntN(50)
		want = append(want, [2]int{at, i})
		q.Push(time.Duration(at), func() { got = append(got, [2]int{at, i}) })
	}
	slices.SortFunc(want, func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	for q.Len() > 0 {
		q.Pop().Do()
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
