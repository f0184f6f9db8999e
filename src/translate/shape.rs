//! Value shapes: how the value of a Wigzo event is made from a Segment event.
