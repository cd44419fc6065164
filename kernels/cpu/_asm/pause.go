package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// pause emits a wait that leaves the core's other work alone.
func pause() {
	TEXT("pause", NOSPLIT, "func(turns int)")
	Doc("pause waits for turns times 40 to 140 cycles.")
	turns := param("turns")
	Label("turn")
	PAUSE()
	DECQ(turns)
	JNZ(LabelRef("turn"))
	RET()
}
