//! The kernel's program: evcxr_jupyter as it is, with the features that package.toml gives it.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    Ok(evcxr_jupyter::main()?)
}
