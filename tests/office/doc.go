// Package office has the persons of a gateway under test: an officer, a custodian
// and an auditor, each a user of their own with a key of their own, and the way of a
// question through their hands.
//
//  1. Open makes their keys in a directory, and Hire has the
//     configuration say who they are.
//  2. Answer has the officer file a request, the custodian approve it, and the
//     officer read; each step is a process of that person's user.
//
// The users need not exist on the machine: the kernel knows them by number.
package office
