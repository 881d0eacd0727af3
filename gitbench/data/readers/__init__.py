"""Readers of data folders, one file a layout; `gitbench.data.folder` finds them here by file name.

A reader is a module with three names:

* `NEEDS`: for each task that it reads ("caption", "vqa", "read", "classify"), the files that a folder needs, in words;
* `fits(folder, task) -> bool`: whether a folder has this layout, judged by file names alone;
* `open_split(folder, split, limit, task) -> Source`: one split of it, or a GitbenchError. `photos.PhotoSource` has
  most of what a source needs.
"""
