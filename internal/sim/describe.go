package sim

import (
	"fmt"
	"strings"

	"github.com/holdfast/holdfast/internal/inventory"
)

// describe is an answer as text, for people and for comparing. Of an atomic group that was refused it says which
// operation was, and why: what those before it came to has not happened.
func describe(o *inventory.Outcome) string {
	var b strings.Builder
	fmt.Fprintf(&b, "created=%t replayed=%t broken=%t seq=%d", o.Created, o.Replayed, o.Broken, o.Seq)
	if o.Refusal != nil {
		b.WriteString(describeRefusal(o.Refusal))
	}
	if o.Results != nil {
		b.WriteString(" of " + o.Results.RequestID)
		for i := range o.Results.Outcomes {
			result := o.Results.Outcomes[i]
			result.Replayed = false // results do not say it
			fmt.Fprintf(&b, "\n    %d: %s", i, describe(&result))
		}
	}
	b.WriteString(describeRows(o.Product, o.Adjustment, o.Reservation, o.Order))
	return b.String()
}

// shown describes a value when it is printed, and not before.
func shown[T any](describe func(*T) string, value *T) fmt.Stringer {
	return description(func() string { return describe(value) })
}

type description func() string

func (d description) String() string { return d() }

func describeRefusal(r *inventory.Refusal) string {
	text := fmt.Sprintf(" refused %s %v %v", r.Code, r.Shortages, r.Lines)
	if r.Current != nil {
		text += fmt.Sprintf(" %+v", *r.Current)
	}
	if r.Results != nil {
		last := len(r.Results.Outcomes) - 1
		text += fmt.Sprintf(" at %d:%s", last, describeRefusal(r.Results.Outcomes[last].Refusal))
	}
	return text
}

func describeRows(p *inventory.Product, a *inventory.Adjustment, r *inventory.Reservation, o *inventory.Order) string {
	text := ""
	if p != nil {
		text += fmt.Sprintf(" product %+v", *p)
	}
	if a != nil {
		text += fmt.Sprintf(" adjustment %+v", *a)
	}
	if r != nil {
		text += fmt.Sprintf(" reservation %+v", *r)
	}
	if o != nil {
		text += fmt.Sprintf(" order %+v", *o)
	}
	return text
}

func describeEvent(e *inventory.Event) string {
	actor := "nobody"
	if e.Actor != nil {
		actor = e.Actor.ID
	}
	return fmt.Sprintf("%d %v at %d by %q moves %+v:", e.Seq, e.Type, e.Time, actor, e.Movements) +
		describeRows(e.Product, e.Adjustment, e.Reservation, e.Order)
}

func describeCommand(r *inventory.Request) string {
	g, isGroup := r.Command.(*inventory.Group)
	text := fmt.Sprintf("%T ", r.Command)
	if isGroup {
		text += fmt.Sprintf("atomic=%t", g.Atomic)
	} else {
		text += describeParameters(r.Command)
	}
	if r.Receipt != nil {
		text += fmt.Sprintf(" key %x/%x", r.Receipt.Key[:2], r.Receipt.Fingerprint[:2])
	}
	if isGroup {
		for i := range g.Operations {
			text += fmt.Sprintf("\n    %d: names %d %s", i, g.Operations[i].Names,
				describeCommand(g.Operations[i].Request))
		}
	}
	return text
}

// describeParameters shows values where the command has pointers to them.
func describeParameters(c inventory.Command) string {
	switch c := c.(type) {
	case *inventory.UpdateProduct:
		return fmt.Sprintf("%s %s %d if %v version %d", c.ID, *c.Name, *c.Amount, c.IfMatch, c.Version)
	case *inventory.Reserve:
		text := fmt.Sprintf("for %q %dms %v", c.CustomerID, c.TTL, c.Metadata)
		for _, l := range c.Lines {
			text += fmt.Sprintf(" [%d %s at %s", l.Quantity, l.ProductID, l.Location)
			if l.UnitPrice != nil {
				text += fmt.Sprintf(" for %v", *l.UnitPrice)
			}
			text += "]"
		}
		return text
	}
	return fmt.Sprintf("%+v", c)
}
