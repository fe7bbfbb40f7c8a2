package coturn

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// Write writes a configuration of ours in HCL, with the remarks as comments. It holds the secrets and passwords of the
// file that was read.
func (i *Import) Write(w io.Writer) error {
	file := hclwrite.NewEmptyFile()
	body := file.Body()
	if i.verbose {
		body.AppendNewBlock("log", nil).Body().SetAttributeValue("level", cty.StringVal("debug"))
		body.AppendNewline()
	}
	i.endpoint(body.AppendNewBlock("endpoint", []string{"turn", "turn"}).Body())
	if i.metrics != "" {
		body.AppendNewline()
		body.AppendNewBlock("endpoint", []string{"http", "metrics"}).Body().SetAttributeValue("listen", cty.StringVal(i.metrics))
	}

	var b strings.Builder
	b.Write(file.Bytes())
	for _, group := range []struct {
		kind  Kind
		title string
	}{
		{Wrong, "What cannot be translated: set it here, or mend it there and import again"},
		{Missing, "What coturn did and this does not"},
		{Doubtful, "What is worth a look"},
		{Needless, "What needs no line here"},
	} {
		title := group.title
		for _, r := range i.Remarks {
			if r.Kind != group.kind {
				continue
			}
			if title != "" {
				fmt.Fprintf(&b, "\n# %s:\n", title)
				title = ""
			}
			fmt.Fprintf(&b, "#   %s: %s\n", r.Place(), r.Reason)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Place names what the remark is about, without values: by the lines, and by the name if it is one. What is no name may be a
// part of a secret.
func (r Remark) Place() string {
	place, name := fmt.Sprintf("line %d", r.Directive.Line), r.Directive.Name
	if r.LastLine > r.Directive.Line {
		place = fmt.Sprintf("lines %d-%d", r.Directive.Line, r.LastLine)
	}
	if name == "" || len(name) > 60 || strings.Trim(name, nameCharacters) != "" {
		return place
	}
	return place + ", " + name
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

func (i *Import) endpoint(body *hclwrite.Body) {
	set := func(name string, value cty.Value) { body.SetAttributeValue(name, value) }
	number := func(name string, d Directive, factor int64) {
		if d.Name != "" {
			n, _ := strconv.ParseInt(d.Value, 10, 64) // it was checked when it was taken over
			set(name, cty.NumberIntVal(n*factor))
		}
	}
	set("listen", texts(i.listen))
	if i.realm.Value != "" {
		set("realm", cty.StringVal(i.realm.Value))
	}
	if len(i.secretTexts) > 0 {
		set("secret", texts(i.secretTexts))
	}
	if len(i.passwords) > 0 {
		users := make(map[string]cty.Value)
		for _, name := range i.userNames {
			users[name] = cty.StringVal(i.passwords[name])
		}
		set("users", cty.ObjectVal(users))
	}
	if len(i.relayIP) > 0 {
		set("relay_ip", texts(strs(i.relayIP)))
	}
	if len(i.relayBind) > 0 {
		set("relay_bind", texts(strs(i.relayBind)))
	}
	set("relay_ports", cty.StringVal(i.minPort.Value+"-"+i.maxPort.Value))
	if i.family != "" {
		set("default_family", cty.StringVal(i.family))
	}
	number("user_quota", i.userQuota, 1)
	number("total_quota", i.totalQuota, 1)
	number("max_bps", i.maxBPS, 8)
	number("total_bps", i.capacity, 8)
	number("nonce_lifetime", i.nonceLifetime, 1)
	number("max_lifetime", i.maxLifetime, 1)
	if i.encrypted() {
		body.AppendNewline()
		tls := body.AppendNewBlock("tls", nil).Body()
		tls.SetAttributeValue("cert", cty.StringVal(i.file(i.cert)))
		tls.SetAttributeValue("key", cty.StringVal(i.file(i.key)))
	}
	if len(i.allow)+len(i.deny) > 0 {
		body.AppendNewline()
		peers := body.AppendNewBlock("peers", nil).Body()
		for _, list := range []struct {
			name     string
			prefixes []netip.Prefix
		}{{"allow", i.allow}, {"deny", i.deny}} {
			if len(list.prefixes) > 0 {
				peers.SetAttributeValue(list.name, texts(strs(list.prefixes)))
			}
		}
	}
}

// texts is a list of strings, and one string for a list of one.
func texts(list []string) cty.Value {
	var values []cty.Value
	for _, s := range list {
		values = append(values, cty.StringVal(s))
	}
	switch len(values) {
	case 0:
		return cty.EmptyTupleVal
	case 1:
		return values[0]
	}
	return cty.TupleVal(values)
}

func strs[T fmt.Stringer](values []T) (list []string) {
	for _, v := range values {
		list = append(list, v.String())
	}
	return list
}
