package bench

import "github.com/mailturn/mailturn/cmd/mailturn/internal/bench/report"

// Names of servers and columns.
const (
	mailturn    = "mailturn"
	nginxStream = "nginx stream"
	nginxMail   = "nginx mail"

	metadataCPU = "GETMETADATA CPU us"
	fetchCPU    = "FETCH MB/CPU s"
	idleHeld    = "idle connections"
	idleMemory  = "idle KiB"
)

var columns = []report.Column{
	{Name: "login ms", Format: "%.2f"},
	{Name: "login CPU ms", Format: "%.2f", Ratio: true},
	{Name: "NOOP CPU us", Format: "%.0f", Ratio: true},
	{Name: metadataCPU, Format: "%.0f", Ratio: true},
	{Name: "GETMETADATA us", Format: "%.0f"},
	{Name: "FETCH MB/s", Format: "%.0f"},
	{Name: fetchCPU, Format: "%.0f", Ratio: true},
	{Name: idleHeld, Format: "%.0f"},
	{Name: idleMemory, Format: "%.1f", Ratio: true},
}

var goals = []report.Goal{
	{Column: idleMemory, Name: mailturn, Beside: nginxStream, Bound: 1.5},
	{Column: idleMemory, Name: mailturn, Beside: nginxMail, Bound: 1.5},
	{Column: idleMemory, Name: mailturn, Bound: 24},
	{Column: fetchCPU, Name: mailturn, Beside: nginxStream, Bound: 0.9, Least: true},
	{Column: fetchCPU, Name: mailturn, Beside: nginxMail, Bound: 0.9, Least: true},
	{Column: metadataCPU, Name: mailturn, Bound: 100},
}
