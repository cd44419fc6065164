// Package protosim runs the state machines of loco/gossip/protocol in virtual time and
// checks their invariants at every event.
//
// A world has a few workers with a toy model, a vector whose every mean is known, over
// links with latency, log-normal jitter, bandwidth in each direction, loss (as delay,
// for streams are reliable), streams that overtake each other, break, or repeat a frame,
// cuts in one or both directions, processes that stand still and come back, crash, and
// start again with or without their disk, clocks that differ, and bits that flip. All of
// it follows from one seed: the same seed replays the same run, event by event.
//
// [Run] looks for mistakes, in the all-reduce or in the pair exchange; [Scale] measures what
// either costs for many workers.
//
// There is no goroutine: a heap of events is the scheduler, so that thousands of
// schedules run in a minute.
package protosim
