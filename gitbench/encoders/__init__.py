"""Pre-trained image encoders as files: how one is written and read (`store`), and those that ship (beside this file).

No torch: planning looks up what ships, and pages are made from it.
"""
