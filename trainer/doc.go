// Package trainer runs the inner and outer loops of one worker: H inner steps on
// its own device, one exchange with other workers, one outer step, again.
//
// The trainer knows no network: it is given an [Averager], and a function that
// fetches the state of the others when it is behind. It knows no model either: a
// [Learner] has the parameters and takes inner steps.
//
// Symbols: θ inner (fast) weights, φ outer (slow) weights, Δ pseudo-gradient, δ
// outer momentum, H inner steps per round. A round is numbered by how many were
// completed when it is done: the first is round 1.
//
// What is learnt, what crosses the network and which outer step follows is a row of package
// [loco/trainer/strategy]; the loop is the same for all rows.
//
// # Differences from the papers
//
// A worker's share in the mean of Δ is the number of tokens it trained in the
// round, so that slow and fast devices mix; DiLoCo weighs by the size of a worker's
// data shard. NoLoCo's φ crosses the network under the inner steps, as the paper
// proposes and its published code does not do.
//
// A round may have a time instead of a number of steps (Config.InnerTime): every worker
// takes as many as fit. A worker whose steps come too late for a round's mean can put them
// on top of the others' result and contribute them later (Config.SlowCycle): DiLoCo has
// every worker in every round.
package trainer
