package dhcp

import "time"

// counters are numbers of one server, guarded by its lock.
type counters struct {
	records, known, news, full, future, ended, begun uint64

	events, applied, refused      uint64 // waiting is the rest
	reports, taken                uint64
	reportsBad, reportsNotDurable uint64
	lists, listLeases, listBad    uint64
	healed                        uint64
	lastReport, lastList          time.Time
}

// ServerStats says how one server fares. It holds no data of subscribers.
type ServerStats struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	OK      bool   `json:"ok"`
	Trouble string `json:"trouble,omitempty"` // what is wrong, and what to do

	InForce int  `json:"in_force"` // leases
	Whole   bool `json:"whole"`    // all leases in force are known: a file or list has been read to its end

	Records uint64 `json:"records"`       // said of leases, in whatever way
	News    uint64 `json:"news"`          // of these, that said something new
	Known   uint64 `json:"known"`         // of these, that did not
	Future  uint64 `json:"future"`        // of these, with a time that had not come
	Full    uint64 `json:"full"`          // of these, beyond what can be remembered
	Ended   uint64 `json:"ended_by_list"` // leases that a list or file did not name any more
	Healed  uint64 `json:"healed"`        // leases that a file or list told of first, although reports are expected
	Events  uint64 `json:"events"`        // made for the book
	Applied uint64 `json:"applied"`       // of these, durable
	Waiting uint64 `json:"waiting"`       // of these, for the book
	Refused uint64 `json:"refused"`       // of these, impossible

	Reports    uint64            `json:"reports"`           // that came for this server
	Taken      uint64            `json:"reports_taken"`     // of these, durable
	NotTaken   map[string]uint64 `json:"reports_not_taken"` // of these, by reason
	UnderWay   uint64            `json:"reports_under_way"` // of these
	LastReport time.Time         `json:"last_report,omitzero"`

	Lists      uint64    `json:"lists"`       // read from the control socket
	ListLeases uint64    `json:"list_leases"` // in them
	ListBad    uint64    `json:"list_faulty"` // of them, of no use
	LastList   time.Time `json:"last_list,omitzero"`

	Files []FileStats `json:"files"`
}

// FileStats says how the reading of one lease file fares. Read = Used +
// Skipped + the sum of Faulty.
type FileStats struct {
	Path      string            `json:"path"`
	Read      uint64            `json:"read"`    // lines, or with ISC dhcpd declarations
	Used      uint64            `json:"used"`    // of these, that hold leases
	Skipped   uint64            `json:"skipped"` // of these, that are not about leases
	Faulty    map[string]uint64 `json:"faulty"`  // of these, of no use, by reason
	Leases    uint64            `json:"leases"`
	Replaced  uint64            `json:"replaced"`  // times that another file took its place
	Truncated uint64            `json:"truncated"` // times that it was begun anew
	ReadAt    time.Time         `json:"read_at,omitzero"`
	Trouble   string            `json:"trouble,omitempty"`
}

// Stats says how the service fares.
type Stats struct {
	Listen  string            `json:"listen,omitempty"`
	Dropped map[string]uint64 `json:"dropped"` // reports that are no server's, by reason
	Servers []ServerStats     `json:"servers"`
}

// stats returns the counters of one server.
func (s *server) stats() ServerStats {
	now := s.o.Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.count
	out := ServerStats{
		Name: s.Name, Kind: string(s.Kind), InForce: s.inForce(now),
		Records: c.records, News: c.news, Known: c.known, Future: c.future, Full: c.full, Ended: c.ended, Healed: c.healed,
		Events: c.events, Applied: c.applied, Waiting: uint64(len(s.waiting)), Refused: c.refused,
		Reports: c.reports, Taken: c.taken, NotTaken: map[string]uint64{"form": c.reportsBad, "not-durable": c.reportsNotDurable},
		UnderWay:   c.reports - c.taken - c.reportsBad - c.reportsNotDurable,
		LastReport: c.lastReport.UTC(),
		Lists:      c.lists, ListLeases: c.listLeases, ListBad: c.listBad, LastList: c.lastList.UTC(),
		Files: append([]FileStats{}, s.seen...),
	}
	out.Whole = s.wholeFor()
	for _, about := range []string{"book", s.Leases4, s.Leases6, s.Control4, s.Control6} {
		if text := s.state[about]; text != "" && about != "" {
			out.Trouble = text
			break
		}
	}
	if out.Trouble == "" && s.expectsReports() && c.reports == 0 && c.healed > 0 {
		out.Trouble = "leases change, and no report comes: is the server's hook or script set up? see share/edgelog/dhcp-report.sh"
	}
	out.OK = out.Trouble == ""
	return out
}

// wholeFor reports whether every list and file has been read to its end.
func (s *server) wholeFor() bool {
	has := [2]bool{s.Leases4 != "" || s.Control4 != "", s.Leases6 != "" || s.Control6 != "" || s.Kind == Dnsmasq && s.Leases4 != ""}
	return (has[0] || has[1]) && (!has[0] || s.t.whole[0]) && (!has[1] || s.t.whole[1])
}

// countAgain is how old a count of leases in force may be.
const countAgain = 10 * time.Second

// inForce counts leases, not more often than some seconds apart if they are
// many.
func (s *server) inForce(now time.Time) int {
	if len(s.t.m) > 10000 && now.Sub(s.counted) < countAgain {
		return s.force
	}
	s.counted, s.force = now, 0
	for _, l := range s.t.m {
		if l.inForce(now) {
			s.force++
		}
	}
	return s.force
}
