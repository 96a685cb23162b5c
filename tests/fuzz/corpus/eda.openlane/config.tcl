# User config
set ::env(DESIGN_NAME) "spm"
set ::env(VERILOG_FILES) [glob $::env(DESIGN_DIR)/src/*.v]
set ::env(CLOCK_PERIOD) "10.000"; set ::env(CLOCK_PORT) {clk}
lappend ::env(EXTRA_LEFS) a.lef b.lef
set filename $::env(DESIGN_DIR)/$::env(PDK)_config.tcl
if { [file exists $filename] == 1} {
	source $filename
}
