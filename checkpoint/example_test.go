package checkpoint_test

import (
	"context"
	"fmt"
	"os"

	"loco/checkpoint"
)

// A run saves its state every so often and goes on from the newest checkpoint that is
// whole.
func Example() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	w, err := checkpoint.New(checkpoint.Config{Stages: checkpoint.Local(dir, "", 3, 0)})
	if err != nil {
		panic(err)
	}
	state := w.Borrow()
	state.Round, state.Step = 12, 240
	state.Model = []checkpoint.Vector{{Name: "norm.weight", Shape: []int{2}, Data: []float32{0.5, -1}}}
	state.Meta = map[string]string{"strategy": "diloco"}
	if err := w.Save(state); err != nil { // writes in the background
		panic(err)
	}
	if err := w.Close(context.Background()); err != nil {
		panic(err)
	}

	path, damaged, err := checkpoint.Latest(dir)
	if err != nil {
		panic(err)
	}
	state, err = checkpoint.Load(path)
	fmt.Println("round", state.Round, "step", state.Step, state.Model[0].Data, len(damaged), err)
	// Output: round 12 step 240 [0.5 -1] 0 <nil>
}

// Write and Read use a store without a writer.
func ExampleWrite() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ctx, store := context.Background(), checkpoint.NewDisk(dir)
	unlock, err := store.Lock(ctx)
	if err != nil {
		panic(err)
	}
	defer unlock()
	for round := range uint64(3) {
		if _, err := checkpoint.Write(ctx, store, &checkpoint.State{Round: round}); err != nil {
			panic(err)
		}
	}
	rounds, err := store.List(ctx)
	fmt.Println(rounds, err)
	// Output: [0 1 2] <nil>
}
