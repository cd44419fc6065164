package process

import (
	"slices"
	"strings"
	"testing"

	"loco/gossip/exchange"
	"loco/trainer"
)

// The states that led to a checkpoint are read back as they were; what is no such list is
// refused by its name.
func TestMarksOfACheckpoint(t *testing.T) {
	past := []trainer.Passed{{Mark: exchange.Mark{Round: 0, Digest: [32]byte{1, 2, 3}}}, {Mark: exchange.Mark{Round: 1 << 40, Digest: [32]byte{31: 9}}, Tokens: 1<<64 - 1, Steps: 7}}
	for _, want := range [][]trainer.Passed{nil, past[:1], past} {
		if got, err := marksOf(textOfMarks(want)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%v came back as %v, %v", want, got, err)
		}
	}
	for _, text := range []string{"1", "1:00:2:3", "x" + textOfMarks(past[:1]), textOfMarks(past[:1]) + ":1"} {
		if got, err := marksOf(text); err == nil || !strings.Contains(err.Error(), metaPast) {
			t.Errorf("%q is read as %v, %v", text, got, err)
		}
	}
}
