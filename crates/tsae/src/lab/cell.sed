# What cargo.sh adds to the code that evcxr puts around a cell's own, no line more: evcxr finds the cell's errors by their lines.
#
# evcxr waits for lines of its own, which it does not know if a cell has left its last line open: `print!("abc")` is not seen, or only with what the
# next cell prints; with a flush behind it the cell never ends. So a line of the relay's ends what is open before evcxr's lines.
s/b"EVCXR_BEGIN_CONTENT text\/plain\\n"/b"\\x1eTSAE \\nEVCXR_BEGIN_CONTENT text\/plain\\n"/
s/^evcxr_variable_store$/println!("\\x1eTSAE ");&/

# A cell that panics, or ends with a failing `?`, prints a line that evcxr keeps to itself. Ours before it tells the relay: see stderr_capture.py.
s/^ *println!("EVCXR_PANIC_NOTIFICATION");$/println!("\\x1eTSAE failed");&/
s/^ *println!("{}", evcxr_internal_runtime::USER_ERROR_OCCURRED);$/println!("\\x1eTSAE failed");&/
