package swim

// Bugs are the mistakes that a test can plant.
var Bugs = []struct {
	Name string
	bug  bug
}{
	{"nobody refutes", bugRefute},
	{"rumors of an older incarnation count", bugStale},
	{"a suspicion never ends in death", bugPatience},
	{"the answers that others get are ignored", bugVouched},
	{"time in which this process stood still is held against the others", bugStall},
	{"rumors are not passed on", bugSpread},
	{"a dead member that refutes is not dialed", bugRecall},
	{"an ack may take a tenth of a period, whatever was observed", bugTrips},
	{"rumors are told for ever", bugForever},
}
