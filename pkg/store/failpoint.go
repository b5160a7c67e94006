package store

// failpoint is called at each point between two steps that lie on the disk. A
// test puts a kill in its place; see failpoints.
var failpoint = func(string) {}

// failpoints are all names that failpoint is called with.
var failpoints = []string{
	"key written", "key named", "key rewrapped", "key replaced",
	"put begun", "put committed",
	"fresh directory made", "fresh database made",
	"run opened", "run written", "contents written", "mark written", "merge marked", "run named", "merge swapped", "fresh database moved away",
	"key destroyed", "keys destroyed", "day moved away",
	"hold written", "hold named", "hold moved away", "hold key overwritten",
}
